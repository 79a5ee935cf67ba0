"""A worker: a process that opens the models once, takes jobs from the queue and answers them.

    python -m station.worker OWNER PARENT < settings.json

It ends when its parent does. Untrusted images are decoded here, under a limit of address space.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, Table, delete, select
from sqlalchemy.exc import IntegrityError

from scene import InputError

from .changes import current_threshold, end_task
from .database import Database, Unavailable, open_database, patiently
from .inspect_part import Photograph, inspect_part
from .model_tasks import run_task
from .models import Models, OpenModel, uses_cpu
from .queue import Answer, answer, claim, give_back, renew
from .queue import say_progress as say
from .settings import StationSettings
from .sinks import sink_names
from .spool import Spool
from .tables import inspections, model_troubles, photographs, tasks

_IDLE = 0.05  # seconds between two looks for work
_FULL = 5.0  # seconds to wait where the disk is full
_log = logging.getLogger(__name__)


@dataclass
class Worker:
    """One process's work."""

    settings: StationSettings
    database: Database
    owner: str
    models: Models
    parent: int
    stopping: threading.Event = field(default_factory=threading.Event)
    _said: dict[str, str] = field(default_factory=dict)  # troubles of models, for /health

    def run(self) -> None:
        """Works until it is told to stop or its parent is gone."""
        while not self.stopping.is_set() and os.getppid() == self.parent:
            try:
                if not (self._do_task() or self._do_inspection()):
                    self.open_models(self.models.due())
                    self.stopping.wait(_IDLE)
            except Unavailable as error:
                _log.warning("%s", error)
                self.stopping.wait(1.0)

    def open_models(self, names: Iterable[str]) -> None:
        """Opens models, or says which cannot be opened."""
        for name in names:
            try:
                self._open(name)
            except InputError as error:
                _log.error("%s: %s", name, error)

    def _open(self, name: str) -> OpenModel:
        """A model; whether it can be opened stands in the database, for /health."""
        try:
            model = self.models.get(name)
        except InputError as error:
            self._say_trouble(name, str(error))
            raise
        self._say_trouble(name, "")
        return model

    def _say_trouble(self, name: str, message: str) -> None:
        if self._said.get(name) == message:
            return
        try:
            with self.database.write() as connection:
                connection.execute(delete(model_troubles).where(model_troubles.c.model == name))
                if message:
                    values = {"model": name, "message": message, "at": time.time()}
                    connection.execute(model_troubles.insert().values(**values))
        except (IntegrityError, Unavailable) as error:  # the former: another worker says it now
            _log.warning("%s: %s", name, error)
            return
        self._said[name] = message

    def _do_inspection(self) -> bool:
        """Takes and answers one inspection, if there is one."""
        job = claim(self.database, inspections, self.owner, self.settings.lease)
        if job is None:
            return False
        with self._alive(inspections, job):
            try:
                found = self._answer(job)
            except InputError as error:  # of a full disk: the photograph waits for room
                reason = str(error)
                patiently(lambda: give_back(self.database, self.owner, reason, False, job.id))
                _log.error("%s", error)
                self.stopping.wait(_FULL)
                return True
            sinks = sink_names(self.settings)
            patiently(lambda: answer(self.database, job, self.owner, found, sinks))
        return True

    def _answer(self, job: Row) -> Answer:
        """What is found; raises InputError for a full disk only."""
        if job.attempts > self.settings.attempts:
            reason = job.failure or "no sign of life"
            return _failed(
                f"given up after {job.attempts - 1} attempts ({reason}): take the photograph again"
            )
        if job.n_photographs == 0:
            return _failed(job.failure or "there is no photograph")
        try:
            model = self._open(job.model)
        except (InputError, KeyError) as error:
            return _failed(f"the model {job.model} cannot be opened: {error}")
        spool = Spool(self.settings.spool, self.settings.max_bytes, 0)
        with self.database.read() as connection:
            version = current_threshold(connection, job.model)
            rows = connection.execute(
                select(photographs).where(photographs.c.inspection_id == job.id)
                .order_by(photographs.c.number)
            ).all()  # fmt: skip
        files = [Photograph(spool.path(job.key, row.number), row.name) for row in rows]
        root = self.settings.pictures / job.key[:2] / job.key
        number = None if version is None else version.version
        return inspect_part(
            model.with_threshold(version), files, root, self.settings.max_pixels, number,
            lambda text: say(self.database, inspections, job.id, self.owner, text),
        )  # fmt: skip

    def _do_task(self) -> bool:
        """Takes and does one task on a model, if there is one."""
        task = claim(self.database, tasks, self.owner, self.settings.lease)
        if task is None:
            return False
        with self._alive(tasks, task):
            threshold: dict[str, Any] | None = None
            try:
                if task.attempts > self.settings.attempts:
                    raise InputError(f"given up: {task.failure or 'no sign of life'}")
                message, threshold = run_task(
                    self.settings, self.database, self.models, task,
                    lambda text: say(self.database, tasks, task.id, self.owner, text),
                )  # fmt: skip
                ok = True
            except InputError as error:
                message, ok = str(error), False
            patiently(lambda: end_task(self.database, task, self.owner, message, ok, threshold))
        return True

    @contextmanager
    def _alive(self, table: Table, job: Row) -> Iterator[None]:
        """Renews the lease while the block runs."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self.settings.lease / 3):
                try:
                    renew(self.database, table, job.id, self.owner, self.settings.lease)
                except Unavailable as error:
                    _log.warning("%s", error)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _failed(message: str) -> Answer:
    return Answer("error", {"images": [], "error": message})


def limit_memory(more: int) -> None:
    """Lets this process have so many bytes of address space beyond what it has now."""
    import resource

    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + more if hard == resource.RLIM_INFINITY else min(hard, now + more)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def main() -> None:
    """Entry of the process."""
    owner, parent = sys.argv[1], int(sys.argv[2])  # the latter may be dead before this one runs
    logging.basicConfig(level=logging.INFO, format=f"worker {owner[:6]}: %(message)s")
    settings = StationSettings.load(sys.stdin.read())
    database = open_database(settings.database)
    worker = Worker(settings, database, owner, Models(settings), parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stopping.set())
    worker.open_models(settings.models)
    if sys.platform == "linux" and uses_cpu(settings):
        limit_memory(settings.decode_memory)
    started = time.monotonic()
    worker.run()
    _log.info("ends after %.0f s", time.monotonic() - started)


if __name__ == "__main__":
    main()
