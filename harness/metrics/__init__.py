"""Metrics: pure functions, one module per family."""
