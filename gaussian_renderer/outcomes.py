"""Outcomes of backend checks on disk, so that a device is tried once and not by every process."""

import functools
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from scene import InputError, read_json, write_json


def cache_file() -> Path:
    """Where outcomes are kept, by the platform's convention for a user's caches."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "splatpose" / "backend_checks.json"


@functools.cache
def sources() -> str:
    """A digest of this package's Python sources: other sources, other outcomes."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def remembered() -> dict[str, str]:
    """Outcomes of these sources; none if there is no file, or one that cannot be read."""
    try:
        content: Any = read_json(cache_file())
        return dict(content["outcomes"]) if content["sources"] == sources() else {}
    except (InputError, RuntimeError, KeyError, TypeError, ValueError):
        return {}  # no home folder, or a file that somebody else wrote


def remember(outcomes: dict[str, str]) -> None:
    """Writes the outcomes. A cache that cannot be written is no error: the next process checks."""
    try:
        path = cache_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"sources": sources(), "outcomes": outcomes})
    except (OSError, RuntimeError, InputError):
        return
