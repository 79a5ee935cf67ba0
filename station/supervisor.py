"""Keeps the workers alive: replaces those that died, and ends those that take too long."""

import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .database import Database, Unavailable
from .queue import give_back, is_overdue
from .settings import StationSettings

_LOOK = 0.5  # seconds between two looks
_PAUSE = (1.0, 30.0)  # seconds before a worker that died at once is replaced: first, longest
_HEALTHY = 20.0  # seconds of life after which the pause starts anew
_ROOT = Path(__file__).resolve().parent.parent
_log = logging.getLogger(__name__)


@dataclass
class _Slot:
    """A place for a worker."""

    owner: str = ""
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    again_at: float = 0.0
    pause: float = _PAUSE[0]


@dataclass
class Supervisor:
    """Runs in a thread of the server."""

    settings: StationSettings
    database: Database
    restarts: int = 0
    _slots: list[_Slot] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the workers and the thread that looks after them."""
        self._slots = [_Slot() for _ in range(self.settings.workers)]
        for slot in self._slots:
            self._begin(slot)
        self._thread = threading.Thread(target=self._look_after, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Lets the workers finish what they are at, for a while."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        for slot in self._slots:
            if slot.process is not None:
                try:
                    slot.process.wait(self.settings.lease)
                except subprocess.TimeoutExpired:
                    slot.process.kill()
                    slot.process.wait()

    @property
    def processes(self) -> list[int]:
        """Ids of the workers that are alive."""
        return [
            slot.process.pid for slot in self._slots
            if slot.process is not None and slot.process.poll() is None
        ]  # fmt: skip

    def _begin(self, slot: _Slot) -> None:
        slot.owner, slot.started = secrets.token_hex(16), time.monotonic()
        slot.process = subprocess.Popen(
            [sys.executable, "-m", "station.worker", slot.owner, str(os.getpid())],
            stdin=subprocess.PIPE, cwd=_ROOT, text=True,
        )  # fmt: skip
        assert slot.process.stdin is not None
        try:
            slot.process.stdin.write(self.settings.dump())
            slot.process.stdin.close()
        except BrokenPipeError:  # it died at once: looked after like any other death
            _log.error("a worker ended before it began")

    def _look_after(self) -> None:
        while not self._stopping.wait(_LOOK):
            for slot in self._slots:
                try:
                    self._look_at(slot)
                except Unavailable as error:
                    _log.warning("%s", error)

    def _look_at(self, slot: _Slot) -> None:
        if slot.process is None:
            if time.monotonic() >= slot.again_at:
                self._begin(slot)
                self.restarts += 1
            return
        code = slot.process.poll()
        if code is None:
            if is_overdue(self.database, slot.owner, self.settings.time_limit):
                _log.error("an inspection takes more than %g s", self.settings.time_limit)
                slot.process.kill()
                slot.process.wait()
                give_back(self.database, slot.owner, "it took too long")
            return
        _log.error("a worker ended (status %d) and is replaced", code)
        give_back(self.database, slot.owner, f"its worker died (status {code})")
        is_well = time.monotonic() - slot.started > _HEALTHY
        slot.pause = _PAUSE[0] if is_well else min(2 * slot.pause, _PAUSE[1])
        slot.process, slot.again_at = None, time.monotonic() + slot.pause
