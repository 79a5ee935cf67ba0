"""One script per hot path: `python -m benchmarks.kernels` and its like, JSON out."""
