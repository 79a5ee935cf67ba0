"""Puts captures onto one contact sheet, a row each.

python -m benchmarks.synthetic.sheet sheet.jpg data/rack data/tin
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from pipeline.command_line import run

from .overview import write_overview


@dataclass(frozen=True)
class SheetConfig:
    """Which captures, and where the sheet goes."""

    out: tyro.conf.Positional[Path]
    """JPEG that is written."""
    captures: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of captures."""


def main() -> None:
    """Command line."""

    def script() -> None:
        """Writes the sheet."""
        config = tyro.cli(SheetConfig, description=__doc__)
        write_overview(list(config.captures), config.out)

    run(script)


if __name__ == "__main__":
    main()
