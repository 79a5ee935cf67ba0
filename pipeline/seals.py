"""JSON files that tell when a value in them was changed, and the hashes of other files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SEAL = "sha256"


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with a hash of its values; `settings.source` may change, as data are moved."""
    return {**document, _SEAL: _digest(document)}


def is_sealed(document: Mapping[str, Any]) -> bool:
    """Whether it has a hash: files of older versions have none."""
    return _SEAL in document


def check_seal(document: Mapping[str, Any]) -> None:
    """Raises ValueError when the values are not those that were sealed."""
    if document.get(_SEAL) != _digest(document):
        raise ValueError("its values are not those that were written")


def _digest(document: Mapping[str, Any]) -> str:
    values = {name: value for name, value in document.items() if name != _SEAL}
    if isinstance(values.get("settings"), dict):
        settings = values["settings"].items()
        values["settings"] = {name: value for name, value in settings if name != "source"}
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
