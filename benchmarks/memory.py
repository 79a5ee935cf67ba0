"""Memory of detect.py by the number of queries.

    python -m benchmarks.memory --model out/brick_dog --queries 200 1000

The test images of the capture, with labels and masks, are linked again and again until there are so
many; each number runs in a process of its own. Printed is the largest resident memory, and what
10,000 queries would take by the line through the smallest and the largest number.
"""

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import tyro

from pipeline.model_folder import CODE, ModelFolder
from scene import InputError, Query, read_capture

_MANY = 10_000


@dataclass(frozen=True)
class MemoryConfig:
    """What is inspected, and how often."""

    model: Path
    """Model folder."""
    queries: tuple[int, ...] = (200, 1000)
    """Numbers of queries, at least two."""


def measure(config: MemoryConfig) -> dict[int, float]:
    """Largest resident memory in MiB by number of queries. Raises InputError."""
    settings = ModelFolder(config.model).load_config()["settings"]
    known = read_capture(settings["source"], settings["resolution"]).queries
    if not known:
        raise InputError(f"'{settings['source']}' has no test images: choose another model")
    found: dict[int, float] = {}
    for count in sorted(config.queries):
        with tempfile.TemporaryDirectory() as scratch:
            for number, query in enumerate(islice(cycle(known), count)):
                _link(query, number, Path(scratch) / "data")
            command = [
                sys.executable, str(CODE / "detect.py"), "--model", str(config.model.resolve()),
                "--images", f"{scratch}/data", "-o", f"{scratch}/out", "--threads", "1",
            ]  # fmt: skip
            subprocess.run(command, check=True, cwd=CODE)
        # Of all children so far: the numbers ascend.
        found[count] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return found


def _link(query: Query, number: int, root: Path) -> None:
    """One more query with its mask, under another name."""
    label = query.label or ""
    links = {root / "test" / label / f"{number}{query.image_path.suffix}": query.image_path}
    if query.mask_path is not None:
        name = f"{number}_mask{query.mask_path.suffix}"
        links[root / "ground_truth" / label / name] = query.mask_path
    for link, target in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target.resolve())


def main() -> None:
    """Command line."""
    found = measure(tyro.cli(MemoryConfig, description=__doc__))
    for count, size in found.items():
        print(f"{count} queries: {size:.0f} MiB")
    (few, low), *_, (many, high) = found.items()
    each = (high - low) / (many - few)
    print(f"{1024 * each:.1f} KiB a query; {_MANY} queries: {high + each * (_MANY - many):.0f} MiB")


if __name__ == "__main__":
    main()
