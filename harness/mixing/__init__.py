"""Mixtures of training formats: the points of a sweep, response surfaces over them, and what a sweep found."""
