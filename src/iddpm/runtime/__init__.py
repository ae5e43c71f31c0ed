"""Processes, seeds, atomic files, locks, errors and the console: what every room may import."""
