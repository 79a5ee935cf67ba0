"""How the scripts begin and end: threads, status 0, or one sentence on stderr and status 2."""

import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from scene import InputError

_COMPUTED_BY_TORCH = {"reference", "loftr", "xfeat", "efficientnet_b4"}


class Stopped(KeyboardInterrupt):
    """The system ended the run by a signal: like Ctrl-C, what was done is written."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def run(script: Callable[[], Any], when_interrupted: str = "") -> None:
    """Runs a script; an InputError is printed as one sentence and ends it with status 2.

    Ctrl-C, SIGTERM and SIGHUP end it with status 128 + signal; `when_interrupted` says what becomes
    of what was done, unless the exception carries a note of its own.
    """
    for stream in (sys.stdout, sys.stderr):  # names of files may be made of any bytes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    _stop_by_signals()
    try:
        script()
    except InputError as error:
        notes = getattr(error, "__notes__", [])
        print(f"error: {'; '.join([str(error), *notes])}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        notes = getattr(stop, "__notes__", None) or [when_interrupted]
        print(": ".join(filter(None, ("interrupted", *notes))), file=sys.stderr)
        sys.exit(getattr(stop, "status", 130))


def _stop_by_signals() -> None:
    """SIGTERM and SIGHUP raise `Stopped`, unless they are ignored (nohup)."""
    terminals = [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]

    def stop(number: int, _: FrameType | None) -> None:
        if number != signal.SIGTERM:  # the terminal is gone: writing to it would fail
            for descriptor in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        raise Stopped(number)

    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


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
