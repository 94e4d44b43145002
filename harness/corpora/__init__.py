"""Corpora: one manifest format, one reader, one file per corpus adapter."""
