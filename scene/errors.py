"""The one exception for everything that a user can fix."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class InputError(Exception):
    """Something given to us is wrong: one sentence that says what, where, and how to fix it.

    The scripts print it as ``error: ...`` and exit with status 2; everything else is a bug of ours
    and keeps its traceback. The names of files in it may be made of any bytes: what would break the
    line, or cannot be written as UTF-8, is escaped.
    """

    def __init__(self, message: str) -> None:
        text = message.encode("utf-8", errors="backslashreplace").decode()
        super().__init__(_CONTROL.sub(lambda found: repr(found.group())[1:-1], text))
