"""The one exception for everything that a user can fix."""


class InputError(Exception):
    """Something given to us is wrong: one sentence that says what, where, and how to fix it.

    The scripts print it as ``error: ...`` and exit with status 2; everything else is a bug of ours
    and keeps its traceback.
    """
