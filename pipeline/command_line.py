"""How the scripts begin and end: threads, status 0, or one sentence on stderr and status 2."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from scene import InputError

_COMPUTED_BY_TORCH = {"reference", "loftr", "xfeat", "efficientnet_b4"}


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


def settle_threads(threads: int | None, *parts: str) -> int:
    """The number of CPU threads, all cores if None; PyTorch gets them where one of the `parts`
    (backend, matcher, features) computes in it.

    The others compute in the native kernel, which has threads of its own, and leave PyTorch only
    small operations: these do not gain from a second thread, and OpenMP's threads spin while they
    wait, which takes the processor from the kernel and from every other program.
    Raises InputError for fewer than one.
    """
    if threads is not None and threads < 1:
        raise InputError(f"--threads must be at least 1, not {threads}")
    if threads is None:
        has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
        threads = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    torch.set_num_threads(threads if _COMPUTED_BY_TORCH.intersection(parts) else 1)
    return threads
