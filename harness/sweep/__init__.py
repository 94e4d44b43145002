"""Sweeps over mixing ratios: the only package that imports optuna."""
