"""Everything that this project claims of a GPU, checked and measured by one command.

    python -m benchmarks.gpu_check                      at most 10 minutes, asks nothing
    python -m benchmarks.gpu_check --no-build --json OUT.json

On a machine with an NVIDIA GPU it installs the CUDA packages that are missing (--no-build: it does
not), holds every CUDA backend against `reference`, trains data/brick_dog with each, judges its test
images one by one and in batches, and writes a table and JSON. Every step runs in a process of its
own with a time limit, so one that crashes or hangs is reported in a sentence and the others go on;
what cannot run is left out with its reason. The JSON is written after every step, so a check that
is cut off leaves what it found.

Our own backend `triton` comes first, as it needs nothing but PyTorch. gsplat compiles its kernels
at the first run, which may take most of the time: run the command again then. Exits with 0 if all
steps went well and all comparisons are within their limits, with 1 if not, with 2 without a GPU or
without the project's packages, with 130 when interrupted.
"""

import importlib
import importlib.util
import sys

from doctor import REQUIRED


def main() -> None:
    """Command line. What is missing is told before anything that needs it is imported."""
    missing = [
        name for module, name in REQUIRED.items() if importlib.util.find_spec(module) is None
    ]
    if missing:
        print(f"error: {', '.join(missing)} missing: pip install -r requirements.txt (without a "
              "network: docs/gpu.md)", file=sys.stderr)  # fmt: skip
        sys.exit(2)
    importlib.import_module("benchmarks.gpu_run").main(__doc__ or "")


if __name__ == "__main__":
    main()
