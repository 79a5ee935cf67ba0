"""Renders a capture in MAD's layout: a random object, train views, queries with defects, masks.

    python -m benchmarks.synthetic --out data/pump --seed 1 --gloss 0.6 --light object
    python -m benchmarks.synthetic --out data/matte --seed 2 --gloss 0 --sensor-noise 0.01

The same seed and settings give the same bytes.
"""

import tyro

from pipeline.command_line import run

from .capture import SyntheticConfig, make_capture


def main() -> None:
    """Command line."""

    def script() -> None:
        """Renders and says where."""
        folder = make_capture(tyro.cli(SyntheticConfig, description=__doc__))
        print(f"{folder} is ready")

    run(script)


if __name__ == "__main__":
    main()
