"""Evaluation harness for joint speech-unit + text language models."""

__version__ = "0.1.0"
