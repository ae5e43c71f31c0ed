"""Losses that make a few-step model of a trained one: one file per method."""
