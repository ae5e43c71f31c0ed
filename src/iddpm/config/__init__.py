"""Validated settings, one file per section; no torch here."""
