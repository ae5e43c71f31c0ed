"""Readers, one file per kind of data."""
