"""The one exception for everything that a user can fix."""

from .names import printable


class InputError(Exception):
    """Something given to us is wrong: one sentence that says what, where, and how to fix it.

    The scripts print it as ``error: ...`` and exit with status 2; everything else is a bug of ours
    and keeps its traceback. The names of files in it may be made of any bytes: what would break the
    line, or cannot be written as UTF-8, is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))
