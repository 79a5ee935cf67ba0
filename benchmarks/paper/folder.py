"""The folder of a benchmark, when several runs share it."""

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.paper.jobs import Settings
from scene import InputError, read_json, write_json

# May change between two runs of one benchmark: none of them changes a figure over images.
_FREE = ("threads", "keep_maps", "weights", "checkpoint_every")


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Waits until no other run writes what all runs share (settings, tables), then keeps it.

    The lock belongs to the process: the system lets go when it dies, and after a restart of the
    machine none is left.
    """
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def claim_folder(root: Path, settings: Settings) -> None:
    """Writes the settings into a new benchmark, or holds them against those of an old one.

    The axes of a benchmark may grow from run to run, its settings may not change.
    Raises InputError when they differ.
    """
    path, ours = root / "settings.json", asdict(settings)
    with only_one(root):
        if not path.is_file():
            write_json(path, ours)
            return
        stored: dict[str, Any] = read_json(path)
    for name, value in ours.items():
        if name not in _FREE and stored.get(name) != value:
            raise InputError(
                f"'{root}' was begun with other settings ({name}: {stored.get(name)}, now {value}):"
                " choose another --name"
            )
