"""The training step and loop, EMA, timestep samplers, checkpoints and monitoring."""
