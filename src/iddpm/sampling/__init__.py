"""How to walk from noise to data."""
