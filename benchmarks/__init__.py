"""One script per question: `python -m benchmarks.kernels`, `.pose`, `.anomaly`, `.robustness`, ...

`benchmarks.paper` makes the paper's tables, `benchmarks.readme` the table of the README,
`benchmarks.synthetic` captures with ground truth.
"""
