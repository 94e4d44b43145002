"""Evaluation: a model on tasks, from corpus to records; answers are kept as they are found."""
