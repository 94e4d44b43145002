"""Evaluation: a model on tasks, from corpus to records; answers are stored as they are found."""
