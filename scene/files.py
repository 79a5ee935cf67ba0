"""Files that are either there and whole, or not there: a killed run leaves no half file."""

import errno
import json
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from .errors import InputError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What a network or FUSE file system answers to a request that it has no notion of.
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, AttributeError, IndexError, ArithmeticError,
    RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    tokenize.TokenError,
)  # fmt: skip
_LARGEST_JSON = 2**28  # bytes; a transforms.json of 10,000 views has 10 million
_DIGITS = 18  # of a whole number that is one; longer ones become floating-point


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
    with _full_disk_named(path):
        file = _open_for_writing(temporary, mode)
        try:
            with file:
                yield file
                file.flush()
                _sync(file.fileno())
            os.replace(temporary, path)
        except IsADirectoryError as error:
            if not path.is_dir():
                raise
            raise InputError(
                f"{path} is a folder, where a file belongs: move it away and run again."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextmanager
def append_lines(path: str | Path) -> Iterator[Callable[[str], None]]:
    """A function that appends a line to a text file (UTF-8); it is on the disk on return.

    A kill or a full disk can cut the last line short: reading takes no line without an end.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    with _full_disk_named(path):
        file = _open_for_writing(path, "ab")
    with file:

        def append(line: str) -> None:
            rest = memoryview(line.encode() + b"\n")
            with _full_disk_named(path):
                while rest:
                    rest = rest[file.write(rest) :]
                _sync(file.fileno())

        yield append


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Turns the errors of a full disk into a sentence."""
    try:
        yield
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
def reading(source: str | Path) -> Iterator[None]:
    """The edge of the readers: what files and numbers can do wrong becomes one sentence.

    Readers say themselves what they expect; this is for what nobody expects of a file.

    Raises:
        InputError: the system refuses, or a number or a name is beyond what can be computed with.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or source
        raise InputError(
            f"Cannot read {where} ({error.strerror or error}): fix the file or its permissions."
        ) from error
    except (ArithmeticError, ValueError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"{source} cannot be read ({error or type(error).__name__}): a name or number in its "
            "files is out of range; export it again."
        ) from error


def refuse_inside(output: Path, source: Path, option: str) -> None:
    """Refuses to write into a folder that is read.

    Raises:
        InputError: `output` is the folder `source`, or lies in it.
    """
    output, source = output.expanduser().resolve(), source.expanduser().resolve()
    if source.is_dir() and (output == source or source in output.parents):
        raise InputError(
            f"'{output}' lies in '{source}', which is read and never written into: choose another "
            f"folder with {option}."
        )


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


def _open_for_writing(path: Path, mode: str) -> IO[Any]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        buffering = 0 if mode == "ab" else -1  # what a full disk refused is not tried again
        return open(path, mode, buffering, encoding=None if "b" in mode else "utf-8")
    except OSError as error:
        if error.errno in _FULL_DISK:
            raise
        raise InputError(
            f"Cannot write into {path.parent} ({error.strerror}): "
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


def read_json(path: str | Path, remedy: str = "fix or restore it") -> Any:
    """Reads a JSON file. Whole numbers of more than 18 digits are given as floating-point.

    Raises:
        InputError: the file is missing, unreadable, not JSON, or nested too deep.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise InputError(f"{path} is larger than 256 MiB: {remedy}.")
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_int=_whole_number)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check the path.") from None
    except OSError as error:
        raise InputError(
            f"Cannot read {path} ({error.strerror}): fix the file or its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text, as JSON is: {remedy}.") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON (line {error.lineno}: {error.msg}): {remedy}."
        ) from error
    except RecursionError:
        raise InputError(f"{path} is nested too deep: {remedy}.") from None


def _whole_number(digits: str) -> int | float:
    """Infinity where there are so many digits that no number holds them."""
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def check_numbers(values: Mapping[str, Any], limits: Mapping[str, tuple[float, float]]) -> None:
    """Holds numbers of a file against their ranges (both ends included).

    Raises:
        KeyError: one is missing.
        ValueError: one is no finite number, or out of its range.
    """
    for name, (low, high) in limits.items():
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is {value!r}, not a number")
        if not low <= value <= high:  # false for NaN
            raise ValueError(f"{name} is {value:g}, not in {low:g} to {high:g}")
