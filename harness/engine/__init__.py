"""Engines: likelihoods, continuations, fine-tuning, and what they share."""
