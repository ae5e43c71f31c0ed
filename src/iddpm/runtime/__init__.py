"""Processes, seeds, atomic files, locks, errors and the console; every package may import it."""
