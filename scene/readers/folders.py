"""Finding the capture that a user means, and listing images in an order that people expect."""

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..images import IMAGE_SUFFIXES

_CLASS_NUMBER = re.compile(r"^\d\d(?=[A-Za-z])")  # the 01 of MAD's 01Gorilla
_SPELLINGS = {"pheonix": "Phoenix"}  # as MAD's folder spells it: as everybody else does
_NOT_COLOURS = re.compile(r"_(depth|normal|alpha|disp)(_|$)", re.IGNORECASE)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts 2.png before 10.png, and folders by the same rule."""
    pieces = re.findall(r"\d+|\D+", path.as_posix().casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces]


def images_in(folder: Path) -> list[Path]:
    """The colour images directly inside a folder, in natural order.

    Hidden files and the depth and normal maps that Blender data sets keep beside are left out.
    """
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    colours = (p for p in found if not p.name.startswith(".") and not _NOT_COLOURS.search(p.stem))
    return sorted(colours, key=natural_key)


def folders_in(folder: Path) -> list[Path]:
    """The visible folders directly inside a folder, in natural order."""
    inside = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(inside, key=natural_key)


def check_unique_names(names: Iterable[str], where: Path) -> None:
    """Refuses two images that differ in their extension only.

    Raises:
        InputError: a name occurs twice.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{where} holds two images called {name}: rename or remove one.")
        seen.add(name)


def find_capture_folder(source: str | Path) -> Path:
    """The folder that `source` names; `MAD-Sim/gorilla` finds `MAD-Sim/01Gorilla`.

    Raises:
        InputError: no such folder or class (those found are listed), or more than one fits.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        return source
    if source.exists():
        raise InputError(f"{source} is a file: give the folder that holds the capture.")
    if not source.parent.is_dir():
        raise InputError(f"There is no folder {source.parent}: check the path of the data set.")
    classes = folders_in(source.parent)
    fitting = [p for p in classes if _same_class(p.name, source.name)]
    if len(fitting) > 1:
        names = ", ".join(p.name for p in fitting)
        raise InputError(f"{source} fits several classes ({names}): write the name in full.")
    if not fitting:
        names = ", ".join(class_name(p) for p in classes) or "none"
        raise InputError(
            f"There is no class {source.name!r} in {source.parent}: choose one of those found "
            f"({names})."
        )
    return fitting[0]


def class_name(folder: Path) -> str:
    """The name of the object: `13Pheonix` is "Phoenix", `brick_dog` stays "brick_dog"."""
    bare = _CLASS_NUMBER.sub("", folder.resolve().name)
    return _SPELLINGS.get(bare.casefold(), bare)


def _same_class(folder: str, wanted: str) -> bool:
    def canonical(name: str) -> str:
        bare = _CLASS_NUMBER.sub("", name).casefold()
        return _SPELLINGS.get(bare, bare).casefold()

    return canonical(folder) == canonical(wanted)
