"""Finding the capture that a user means, and listing images: what is not listed is named."""

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..decode import IMAGE_SUFFIXES
from ..errors import InputError

_CLASS_NUMBER = re.compile(r"^\d\d(?=[A-Za-z])")  # the 01 of MAD's 01Gorilla
_SPELLINGS = {"pheonix": "Phoenix"}  # as MAD's folder spells it: as everybody else does
_OTHER_PICTURES = (
    ".heic", ".heif", ".hif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2",
    ".raw", ".exr", ".hdr", ".pfm", ".psd", ".eps", ".svg", ".pdf", ".jxl", ".ico", ".pcx", ".qoi",
    ".sgi", ".dds", ".xcf", ".npy", ".mp4", ".mov", ".avi", ".mkv", ".webm",
)  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The images under a folder, and everything else that lies there."""

    images: list[Path] = field(default_factory=list)  # loose ones first, in natural order
    left_out: dict[str, list[Path]] = field(default_factory=dict)  # reason to files

    def leave_out(self, reason: str, path: Path) -> None:
        """Notes a file that is not listed."""
        self.left_out.setdefault(reason, []).append(path)

    def say(self, folder: Path) -> None:
        """Says what was left out under `folder`, in one line."""
        if self.left_out:
            _log.warning("left out under %s: %s", printable(folder), self.left_out_text(folder))

    def left_out_text(self, folder: Path) -> str:
        """Count, reason and the first file of each reason."""
        return "; ".join(
            f"{len(paths)} {reason} (the first is {printable(paths[0].relative_to(folder))})"
            for reason, paths in self.left_out.items()
        )


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sorts 2.png before 10.png, and folders by the same rule."""
    pieces = re.findall(r"\d+|\D+", path.as_posix().casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces]


def printable(path: Path) -> str:
    """A path that any terminal and any file can hold, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", errors="replace")


def list_images(folder: Path, is_map: Callable[[Path], bool] = lambda path: False) -> Listing:
    """All images under a folder, in folders of any depth; `is_map` tells depth and normal maps."""
    listing, stack, seen = Listing(), [folder], set()
    while stack:
        current = stack.pop()
        try:
            status = current.stat()
            entries = sorted(current.iterdir(), key=natural_key)
        except OSError:
            listing.leave_out("folders that cannot be read", current)
            continue
        if (status.st_dev, status.st_ino) in seen:
            listing.leave_out("links to folders that are listed already", current)
            continue
        seen.add((status.st_dev, status.st_ino))
        inside = []
        for entry in entries:
            reason = _why_not(entry, is_map)
            if reason is not None:
                listing.leave_out(reason, entry)
            elif entry.is_dir():
                inside.append(entry)
            else:
                listing.images.append(entry)
        stack += reversed(inside)
    return listing


def _why_not(path: Path, is_map: Callable[[Path], bool]) -> str | None:
    """Why a file or folder is not listed; None where it is."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return None
    suffix = path.suffix.lower()
    if suffix in _OTHER_PICTURES:
        return f"{suffix} files, which are not read: convert them to PNG or JPEG"
    if suffix not in IMAGE_SUFFIXES:
        return "without the extension of an image"
    if path.exists() and not path.is_file():  # a broken link is listed, and fails by itself
        return "not regular files"
    return "depth, normal or alpha maps" if is_map(path) else None


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
