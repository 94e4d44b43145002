"""Sweeps: one YAML file is one search space."""
