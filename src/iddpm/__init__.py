"""Train, sample and measure diffusion models from scratch on your own images, signals, volumes."""

__version__ = "0.1.0"
