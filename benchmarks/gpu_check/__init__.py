"""Check iddpm on the GPU of a machine, and measure it there: ``python -m benchmarks.gpu_check``."""
