"""Speech: audio, features, units and their alignment with text."""
