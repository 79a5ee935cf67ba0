"""Photographs on the disk, under names of our own: no name from outside reaches the file system."""

import hashlib
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scene import InputError, atomic_write

_CHUNK = 2**20
_KEY = re.compile(r"[0-9a-f]{32}")
_ABANDONED = 3600.0  # seconds after which a photograph that no inspection names is put aside
_MAGIC = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*", b"GIF8",
    b"P4", b"P5", b"P6", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51",
)  # fmt: skip


class Refused(Exception):
    """A photograph that is not accepted; `status` as HTTP says it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Stored:
    """One photograph that is on the disk."""

    name: str  # the client's, for people
    sha256: str
    size: int


@dataclass(frozen=True)
class Spool:
    """The folder of photographs."""

    root: Path
    max_bytes: int
    least_free: int

    def prepare(self) -> None:
        """Makes the folders, so that a photograph never waits for one."""
        for number in range(256):
            (self.root / f"{number:02x}").mkdir(parents=True, exist_ok=True)

    def path(self, key: str, number: int) -> Path:
        """Where a photograph of an inspection lies. Raises ValueError for what is no key."""
        if not _KEY.fullmatch(key):
            raise ValueError("not the key of an inspection")
        return self.root / key[:2] / f"{key}-{number:d}"

    def store(self, key: str, number: int, name: str, stream: IO[bytes]) -> Stored:
        """Copies a photograph; it is on the disk on return.

        Raises Refused: it is empty, too large, no image by its first bytes, or the disk is full.
        """
        if shutil.disk_usage(self.root).free < self.least_free:
            raise Refused(507, "the station's disk is full: nothing is accepted until it has room")
        digest, size = hashlib.sha256(), 0
        try:
            with atomic_write(self.path(key, number)) as file:
                while chunk := stream.read(_CHUNK):
                    if size == 0:
                        check_magic(chunk, name)
                    size += len(chunk)
                    if size > self.max_bytes:
                        limit = self.max_bytes / 2**20
                        raise Refused(413, f"'{name}' has more than {limit:.4g} MiB: reduce it")
                    digest.update(chunk)
                    file.write(chunk)
                if size == 0:
                    raise Refused(422, f"'{name}' is empty: take it again")
        except InputError as error:
            raise Refused(507, f"the station's disk is full: {error}") from error
        return Stored(name, digest.hexdigest(), size)

    def remove(self, key: str, numbers: Iterable[int]) -> None:
        """Forgets photographs that are not, or no longer, needed."""
        for number in numbers:
            self.path(key, number).unlink(missing_ok=True)

    def keys(self) -> set[str]:
        """The inspections whose photographs lie here."""
        names = (path.name.split("-")[0] for path in self.root.glob("*/*"))
        return {name for name in names if _KEY.fullmatch(name)}

    def sweep(self, known: set[str], aside: Path) -> int:
        """Puts photographs of none of the `known` keys aside, where a person can look at them.

        A killed server left them behind, or the database is a backup from before they came. What
        was never written to its end is removed.
        """
        limit, count = time.time() - _ABANDONED, 0
        for path in self.root.glob("*/*"):
            is_whole = not path.name.startswith(".")
            is_known = is_whole and path.name.split("-")[0] in known
            if is_known or path.stat().st_mtime >= limit:
                continue
            if is_whole:
                aside.mkdir(exist_ok=True)
                path.replace(aside / path.name)
                count += 1
            else:
                path.unlink()
        return count


def check_magic(start: bytes, name: str) -> None:
    """Raises Refused for what begins like no image file; the worker looks closer.

    TGA has no mark of its own and is not accepted over the network.
    """
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    avif = start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis", b"mif1")
    if not (webp or avif or start.startswith(_MAGIC)):
        raise Refused(415, f"'{name}' is no image file that is read: send PNG or JPEG")
