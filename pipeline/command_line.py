"""How the scripts end: status 0, or one sentence on stderr and status 2."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from scene import InputError


def run(script: Callable[[], Any], when_interrupted: str = "") -> None:
    """Runs a script; an InputError is printed as one sentence and ends it with status 2.

    Ctrl-C ends it with status 130; `when_interrupted` says what becomes of what was done.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        script()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(": ".join(filter(None, ("interrupted", when_interrupted))), file=sys.stderr)
        sys.exit(130)
