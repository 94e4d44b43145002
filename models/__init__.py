"""Models: one file is one adapter, one YAML file is one card."""
