"""Names that may be made of any bytes, as text that every terminal, file and file system takes."""

import hashlib
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST = 200  # bytes of a part of a path; 255 less an extension and what atomic_write adds


def printable(text: str) -> str:
    """Text with escapes for what would break a line or cannot be written as UTF-8."""
    whole = text.encode("utf-8", errors="backslashreplace").decode()
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], whole)


def file_name(name: str) -> str:
    """A relative path without extension, for what belongs to the image of this name.

    The name itself, where files can be called so. A part that is no text or too long is escaped
    and cut, and ends in a hash, so that no two images share a file.
    """
    return "/".join(map(_part, name.split("/")))


def _part(name: str) -> str:
    escaped = printable(name).replace("\\", "%") if printable(name) != name else name
    if escaped == name and len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogateescape")).hexdigest()[:12]
    kept = escaped.encode()[: _LONGEST - len(digest) - 1].decode(errors="ignore")
    return f"{kept}-{digest}"
