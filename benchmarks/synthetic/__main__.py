"""Renders a capture in MAD's layout: a random object, train views, queries with defects, masks.

    python -m benchmarks.synthetic data/pump --object pump --seed 1 --gloss 0.6 --light object
    python -m benchmarks.synthetic data/table --object tin --surroundings room --rig upper --masks
    python -m benchmarks.synthetic data/turned --object valve --rig turntable --surroundings uneven
    python -m benchmarks.synthetic data/lens --object board --query-distortion -0.2 0.05

The same seed and settings give the same bytes (docs/robustness.md).
"""

import tyro

from pipeline.command_line import run

from .capture import make_capture
from .config import SyntheticConfig


def main() -> None:
    """Command line."""

    def script() -> None:
        """Renders and says where."""
        folder = make_capture(tyro.cli(SyntheticConfig, description=__doc__))
        print(f"{folder} is ready")

    run(script)


if __name__ == "__main__":
    main()
