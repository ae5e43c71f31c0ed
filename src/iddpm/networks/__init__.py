"""Arithmetic on tensors: layers, blocks and networks; knows nothing of diffusion."""
