"""Files that are either there and whole, or not there: a killed run leaves no half file."""

import errno
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from .errors import InputError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a network or FUSE file system answers to a request that it has no notion of.
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, AttributeError, IndexError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path`; it takes the name `path` only when the block succeeds.

    Missing parent folders are made. `mode` is "wb" or "w" (UTF-8). When the block raises, the
    temporary file is removed and an older `path` stays as it was.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = _open_for_writing(temporary, mode)
        try:
            with file:
                yield file
                file.flush()
                _sync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise InputError(
                f"The disk is full, {path} was not written: free some space and run again."
            ) from error
        raise


@contextmanager
def damage_named(path: str | Path, remedy: str) -> Iterator[None]:
    """Turns what reading a damaged file raises into one sentence that names it.

    For the few lines that take a stored file apart: a missing entry or one of another kind is
    damage there, and a bug anywhere else.

    Raises:
        InputError: the file is missing, cut short, or does not hold what it should.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: {remedy}.") from None
    except KeyError as error:
        raise InputError(f"{path} is damaged ({error} is missing): {remedy}.") from error
    except _DAMAGE as error:
        raise InputError(f"{path} is damaged ({error}): {remedy}.") from error


@contextmanager
def folder_lock(root: Path, option: str) -> Iterator[None]:
    """Holds a folder, which is made if need be, for one writer.

    The system lets go when the process dies. Where the file system has no locks, a sentence says so
    and the folder is used without. `option` is how the user names another folder.

    Raises:
        InputError: another process holds the folder, or it cannot be written.
    """
    # A soft lock would be a mere file, which a killed process leaves behind: rather none.
    lock = FileLock(root / ".lock", timeout=0, fallback_to_soft=False)
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process is writing to '{root}': wait for it, or choose another folder "
            f"with {option}"
        ) from None
    except (OSError, NotImplementedError) as error:  # the latter for ENOSYS
        if isinstance(error, OSError) and error.errno not in _NOT_OFFERED:
            raise InputError(
                f"cannot write into '{root}' ({error.strerror}): choose another folder with "
                f"{option} or fix its permissions"
            ) from error
        print(f"warning: '{root}' cannot be locked there: let no second command write into it")
    try:
        yield
    finally:
        lock.release()


def _open_for_writing(temporary: Path, mode: str) -> IO[Any]:
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        return open(temporary, mode, encoding=None if "b" in mode else "utf-8")
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise
        raise InputError(
            f"Cannot write into {temporary.parent} ({error.strerror}): "
            "choose another output folder or fix its permissions."
        ) from error


def _sync(handle: int) -> None:
    """Waits until the content is on the disk, where the file system offers that."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself durable, where the system allows to open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders; the file's content is safe already
        return
    try:
        _sync(handle)
    finally:
        os.close(handle)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN and infinity are refused (ValueError)."""
    text = json.dumps(value, indent=1, allow_nan=False)
    with atomic_write(path, "w") as file:
        file.write(text + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: the file is missing, unreadable or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check the path.") from None
    except OSError as error:
        raise InputError(
            f"Cannot read {path} ({error.strerror}): fix the file or its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as JSON in UTF-8.") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON (line {error.lineno}: {error.msg}): fix or restore it."
        ) from error
