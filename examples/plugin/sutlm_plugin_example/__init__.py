"""A task and a model adapter for sutlm-harness, to copy from."""
