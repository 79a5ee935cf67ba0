"""Files that are either there and whole, or not there: a killed run leaves no half file."""

import errno
import fcntl
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import InputError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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
                os.fsync(file.fileno())
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

    The system lets go when the process dies. `option` is how the user names another folder.

    Raises:
        InputError: another process holds the folder, or it cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / ".lock", os.O_WRONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"cannot write into '{root}' ({error.strerror}): choose another folder with {option} "
            "or mend its permissions"
        ) from error
    try:
        if not _claimed(handle):
            raise InputError(
                f"another process is writing to '{root}': wait for it, or choose another folder "
                f"with {option}"
            )
        yield
    finally:
        os.close(handle)


def _claimed(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_for_writing(temporary: Path, mode: str) -> IO[Any]:
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        return open(temporary, mode, encoding=None if "b" in mode else "utf-8")
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise
        raise InputError(
            f"Cannot write into {temporary.parent} ({error.strerror}): "
            "choose another output folder or mend its permissions."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself durable, where the system allows to open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders; the file's content is safe already
        return
    try:
        os.fsync(handle)
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
            f"Cannot read {path} ({error.strerror}): mend the file or its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as JSON in UTF-8.") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON (line {error.lineno}: {error.msg}): mend or restore it."
        ) from error
