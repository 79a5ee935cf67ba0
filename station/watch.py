"""A watched folder: every new image is inspected once, also after a restart.

An image directly in the folder is a part of its own; the images of a sub-folder are one part. A
file counts when it has stayed as it is for some seconds, so that half-written ones are waited for.
The folder is looked through, not listened to: that works on network file systems too. Nothing is
ever written into it.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from scene import printable
from scene.decode import IMAGE_SUFFIXES

from .queue import Order, Queue, Upload
from .repeated import Repeated
from .settings import StationSettings, Watch
from .spool import Refused
from .tables import inspections

_LOOK = 0.5  # seconds between two looks
_NAMED = 3  # files that cannot be read
_EMPTY = 10.0  # times the settling time after which an empty file is taken for a mistake

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _File:
    """A file as it is now."""

    path: Path
    size: int
    changed: int  # nanoseconds


@dataclass
class Watcher:
    """Looks through one folder, in a thread of the server."""

    settings: StationSettings
    watch: Watch
    queue: Queue
    trouble: str = ""  # what is wrong with the folder or files in it now; "" nothing
    _unread: dict[str, str] = field(default_factory=dict)  # parts of this look, and why
    _seen: dict[str, tuple[tuple[_File, ...], float]] = field(default_factory=dict)
    _done: dict[str, str] = field(default_factory=dict)  # source keys of parts, by their name
    _loop: Repeated | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._loop = Repeated(
            f"watch of {self.watch.folder}", _LOOK, lambda: self.look(time.monotonic())
        )
        self._loop.start()

    def stop(self) -> None:
        """Ends after the photograph that is being taken in."""
        if self._loop is not None:
            self._loop.stop()

    def look(self, now: float) -> int:
        """Takes in the parts whose files have settled; their number."""
        self._unread = {}
        try:
            parts = dict(self._parts())
        except OSError as error:
            self._say(f"the watched folder {self.watch.folder} cannot be read ({error.strerror})")
            return 0
        for name in self._seen.keys() - parts.keys():
            del self._seen[name]
            self._done.pop(name, None)
        taken = 0
        for name, files in sorted(parts.items()):
            if self._loop and self._loop.is_stopping:
                break
            known = self._seen.get(name)
            if known is None or known[0] != files:
                self._seen[name] = files, now
            elif now - known[1] >= self._patience(files):
                try:
                    taken += self._take(name, files)
                except OSError as error:  # of one part: the others go on
                    self._note_unread(name, error)
        self._say(self._unread_parts())
        return taken

    def _note_unread(self, part: str, error: OSError) -> None:
        """Keeps that a part waits, since a file of it cannot be read."""
        path = part if error.filename is None else os.path.relpath(
            error.filename, self.watch.folder
        )  # fmt: skip
        self._unread[part] = f"'{printable(path)}' ({error.strerror or error})"

    def _unread_parts(self) -> str:
        """One sentence about the parts that wait; "" where none does."""
        if not self._unread:
            return ""
        named = ", ".join([self._unread[part] for part in sorted(self._unread)][:_NAMED])
        more = f" and {len(self._unread) - _NAMED} more" if len(self._unread) > _NAMED else ""
        return f"in the watched folder {self.watch.folder} cannot be read: {named}{more}"

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            _log.error("%s: looked for again and again", trouble)
        self.trouble = trouble

    def _patience(self, files: Sequence[_File]) -> float:
        is_empty = any(file.size == 0 for file in files)
        return self.settings.settle * (_EMPTY if is_empty else 1.0)

    def _parts(self) -> Iterator[tuple[str, tuple[_File, ...]]]:
        """Parts by their name: relative path of the image, or of the sub-folder."""
        with os.scandir(self.watch.folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            try:
                files = self._files_of(entry)
            except FileNotFoundError:
                continue
            except OSError as error:  # a loop of links, or no permission
                self._note_unread(entry.name, error)
                continue
            if files:
                yield entry.name, files

    @staticmethod
    def _files_of(entry: os.DirEntry[str]) -> tuple[_File, ...]:
        """The images of one part. Raises OSError where one of them cannot be looked at."""
        if not entry.is_dir(follow_symlinks=False):
            return tuple(_files([entry]))
        with os.scandir(entry.path) as inner:
            return tuple(_files(sorted(inner, key=lambda each: each.name)))

    def _take(self, name: str, files: tuple[_File, ...]) -> int:
        """Accepts one part, unless it was before; 1 if it did."""
        key = self._source_key(name, files)
        if self._done.get(name) == key or self._is_known(key):
            self._done[name] = key
            return 0
        whole = os.path.isdir(self.watch.folder / name)
        order = Order(self.watch.model, _serial(name, whole), "watch", key)
        if len(files) > self.settings.max_files:
            reason = f"a part has at most {self.settings.max_files} photographs, not {len(files)}"
            self.queue.refuse_for_good(order, reason)
            return 1
        try:
            with ExitStack() as stack:
                uploads = [
                    Upload(file.path.name, stack.enter_context(open(file.path, "rb")))
                    for file in files
                ]
                accepted = self.queue.accept(order, uploads, lambda: _unchanged(files))
        except Refused as refusal:
            if refusal.status in (429, 507):  # taken when there is room
                return 0
            _log.error("%s: %s", self.watch.folder / name, refusal)
            self._done[name] = key
            self.queue.refuse_for_good(order, str(refusal))
            return 1
        except FileNotFoundError:
            return 0
        if accepted is not None:
            self._done[name] = key
        return int(accepted is not None)

    def _source_key(self, name: str, files: Sequence[_File]) -> str:
        state = [(file.path.name, file.size, file.changed) for file in files]
        text = repr((self.watch.model, str(self.watch.folder.resolve()), name, state))
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    def _is_known(self, key: str) -> bool:
        with self.queue.database.read() as connection:
            return connection.execute(
                select(inspections.c.id).where(inspections.c.source_key == key)
            ).first() is not None  # fmt: skip


def _files(entries: Sequence[os.DirEntry[str]]) -> Iterator[_File]:
    for entry in entries:
        hidden = entry.name.startswith(".")
        if hidden or os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:
            continue
        try:
            if entry.is_file():
                status = entry.stat()
                yield _File(Path(entry.path), status.st_size, status.st_mtime_ns)
        except FileNotFoundError:
            continue


def _unchanged(files: Sequence[_File]) -> bool:
    """Whether files are still as they were listed."""
    try:
        states = [os.stat(file.path) for file in files]
    except FileNotFoundError:
        return False
    return all(
        (state.st_size, state.st_mtime_ns) == (file.size, file.changed)
        for state, file in zip(states, files, strict=True)
    )


def _serial(name: str, is_folder: bool) -> str:
    """The part's serial number: the name of its folder, or of its file without the ending."""
    return printable(name if is_folder else os.path.splitext(name)[0])[:200]
