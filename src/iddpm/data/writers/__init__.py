"""Samples written to files, one module per kind of output."""
