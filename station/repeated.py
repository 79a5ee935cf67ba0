"""Work that the server repeats in a thread of its own until it stops."""

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Repeated:
    """Calls `work` every so many seconds; what it raises is logged, and the next call comes."""

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        self._name, self._seconds, self._work = name, seconds, work
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the call that is under way."""
        self._stopping.set()
        self._thread.join()

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called: a long call may end early."""
        return self._stopping.is_set()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._work()
            except Exception as error:  # a thread that ended would do nothing, and say nothing
                _log.warning("%s: %s: %s", self._name, type(error).__name__, error)
