"""Evaluation harness for joint speech-unit + text language models."""

from harness.version import __version__ as __version__
