"""One script per hot path: `python -m benchmarks.rasteriser` and its like, JSON out."""
