"""Tasks: one file is one task, registered under its file name."""
