"""Training: mixtures of speech and text, packing and the loop."""
