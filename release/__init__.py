"""How a release is built and checked; nothing of it is installed."""
