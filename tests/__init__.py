"""Tests, which mirror the tree; the helpers that several share."""
