"""A run directory opened again: its layout, its model, its classifier and its step tables."""
