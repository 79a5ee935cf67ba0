"""journal.jsonl: what a run of detect.py has found so far, so that a killed run goes on.

The first line says which model, program and settings the run belongs to, each of the others holds
the result of one image. It goes when results.json and the report are written.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from scene import InputError, Query, append_lines, atomic_write, printable

NAME = "journal.jsonl"
_FORMAT = 1
_NEEDED = {"name", "path", "label", "score", "seconds", "pose_ok", "map", "note", "error"}


@dataclass
class Journal:
    """The results that are on the disk, and a way to add one."""

    path: Path
    found: dict[str, dict[str, Any]] = field(default_factory=dict)  # entries by key
    append: Callable[[str], None] = print  # one line, safe on the disk on return

    def take(self, query: Query, files: tuple[str, ...]) -> dict[str, Any] | None:
        """The entry of an image that is done; None where it, its label or mask has changed, or one
        of the `files` that its entry needs (relative to the run's folder) is gone.
        """
        entry = self.found.get(_key(query))
        if entry is None:
            return None
        needed = () if entry["score"] is None else files
        return entry if all(_opens(self.path.parent / name) for name in needed) else None

    def add(self, query: Query, entry: dict[str, Any]) -> None:
        """Adds the entry of one image. Raises InputError when the disk is full."""
        self.append(json.dumps({"image": _key(query), "entry": entry}, allow_nan=False))

    def close(self) -> None:
        """Forgets the run: its results are written."""
        self.path.unlink(missing_ok=True)


@contextmanager
def open_journal(root: Path, model: dict[str, Any], settings: dict[str, Any]) -> Iterator[Journal]:
    """The journal of a run into the folder `root`, which is begun or gone on with.

    One of another model or program is begun anew, since its results could not be kept beside
    new ones.

    Raises:
        InputError: the folder holds an unfinished run with other settings, or cannot be written.
    """
    path = root / NAME
    head = json.loads(json.dumps({"format": _FORMAT, "model": model, "settings": settings}))
    lines = _whole_lines(path)
    stored = _parsed(lines[0]) if lines else {}
    found = {}
    if stored.get("format") == _FORMAT and isinstance(stored.get("settings"), dict):
        _refuse_other_settings(path, stored["settings"], head["settings"])
        if stored.get("model") == head["model"]:
            found = _entries(lines[1:])
        else:
            print(f"the model has changed since the unfinished run in '{root}': begun anew")
    elif lines:
        print(f"'{path}' is damaged: the run is begun anew")
    with atomic_write(path) as file:  # without a last line that was cut short
        kept = [head, *({"image": key, "entry": entry} for key, entry in found.items())]
        file.writelines(json.dumps(line).encode() + b"\n" for line in kept)
    with append_lines(path) as append:
        yield Journal(path, found, append)


def is_unfinished(root: Path) -> bool:
    """Whether a folder holds a run that was interrupted."""
    return (root / NAME).is_file()


def files_state(path: Path) -> str:
    """A digest that changes with the names, sizes and times of a file or of a folder's files."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    lines = [f"{file.relative_to(path)}|{_state(file)}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(map(printable, lines)).encode()).hexdigest()[:16]


def _refuse_other_settings(path: Path, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in (*asked, *(stored.keys() - asked.keys())):
        before, now = stored.get(name), asked.get(name)
        if before != now:
            raise InputError(
                f"'{path.parent}' holds an unfinished run with other settings ({name}: {before}, "
                f"now {now}): give the command of that run to go on with it, choose another "
                f"folder with -o, or delete '{path}' to begin anew"
            )


def _key(query: Query) -> str:
    """What an entry was made of: names, label and the state of the files, as one line."""
    image, mask = query.image_path, query.mask_path
    parts = [
        query.name, os.path.abspath(image), query.label, query.is_anomalous, _state(image),
        None if mask is None else os.path.abspath(mask), None if mask is None else _state(mask),
    ]  # fmt: skip
    return printable("|".join(map(str, parts)))


def _opens(path: Path) -> bool:
    """Whether a map or an overlay is there and whole."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None for a file that cannot be looked at."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _whole_lines(path: Path) -> list[bytes]:
    """All lines that end; a kill cuts the last one short."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"Cannot read {path} ({error.strerror}): move it away to begin the run anew."
        ) from error


def _parsed(line: bytes) -> dict[str, Any]:
    """A line as an object, empty where it is none: a disk that was full leaves such lines."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _entries(lines: list[bytes]) -> dict[str, dict[str, Any]]:
    """Entries by key; a damaged line costs its image a second inspection."""
    parsed = map(_parsed, lines)
    return {line["image"]: line["entry"] for line in parsed if _is_entry(line)}


def _is_entry(line: dict[str, Any]) -> bool:
    entry = line.get("entry")
    return (
        isinstance(line.get("image"), str) and isinstance(entry, dict) and entry.keys() >= _NEEDED
    )
