"""The parts of a running station, and how they start and stop."""

import asyncio
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from .database import Database, Unavailable, migrate, open_database, record
from .owner import check_owner, own_folder
from .queue import Queue
from .ray_engine import RayEngine
from .retention import Retention
from .settings import StationSettings
from .sinks import Courier
from .spool import Spool
from .supervisor import Supervisor
from .tables import inspections, model_troubles, photographs
from .versions import note_calibrations
from .watch import Watcher

_LOOK = 0.15  # seconds between two looks for verdicts that clients wait for
_log = logging.getLogger(__name__)


@dataclass
class Station:
    """Everything that serves; made by `open_station`."""

    settings: StationSettings
    database: Database
    queue: Queue
    supervisor: Supervisor | RayEngine
    courier: Courier
    watchers: Sequence[Watcher]
    retention: Retention
    started: float = field(default_factory=time.time)
    refused: dict[int, int] = field(default_factory=dict)  # requests, by HTTP status
    _waiting: dict[str, asyncio.Event] = field(default_factory=dict)

    def start(self) -> None:
        """Starts the workers and threads."""
        self.supervisor.start()
        for part in self._threads():
            part.start()

    def stop(self) -> None:
        """Stops taking work; what is under way is finished, the rest waits in the database."""
        for part in self._threads():
            part.stop()
        self.supervisor.stop()
        self.database.engine.dispose()

    def _threads(self) -> list[Watcher | Courier | Retention]:
        return [*self.watchers, self.courier, self.retention]

    async def look_for_verdicts(self) -> None:
        """Wakes those who wait for an inspection; runs as long as the server."""
        while True:
            await asyncio.sleep(_LOOK)
            if not self._waiting:
                continue
            try:
                done = await asyncio.to_thread(self._done, list(self._waiting))
            except Unavailable as error:
                _log.warning("%s", error)
                continue
            for key in done:
                if key in self._waiting:
                    self._waiting[key].set()

    def _done(self, keys: list[str]) -> list[str]:
        query = select(inspections.c.key).where(
            inspections.c.key.in_(keys), inspections.c.state == "done"
        )
        with self.database.read() as connection:
            return [row.key for row in connection.execute(query)]

    async def wait_for(self, key: str, seconds: float) -> bool:
        """Whether an inspection is answered within so many seconds."""
        event = self._waiting.setdefault(key, asyncio.Event())
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(key, None)
        return True

    def _broken_models(self) -> list[str]:
        """One sentence for each model that cannot be opened. Raises Unavailable."""
        query = select(model_troubles).where(model_troubles.c.model.in_(self.settings.models))
        with self.database.read() as connection:
            return [
                f"the model {row.model} cannot be opened: {row.message}"
                for row in connection.execute(query.order_by(model_troubles.c.model))
            ]

    def health(self) -> dict[str, Any]:
        """What is in order and what is not; `status` is ok or degraded."""
        troubles: list[str] = []
        waiting: int | None = None
        try:
            waiting = self.queue.waiting()
            troubles += self._broken_models()
        except Unavailable as error:
            troubles.append(str(error))
        workers = len(self.supervisor.processes)
        if workers < self.settings.workers:
            troubles.append(f"{workers} of {self.settings.workers} workers are alive")
        free = shutil.disk_usage(self.settings.root).free
        if free < self.settings.least_free:
            troubles.append("the disk is full: nothing is accepted")
        troubles += [trouble for watcher in self.watchers if (trouble := watcher.trouble)]
        return {
            "status": "degraded" if troubles else "ok", "troubles": troubles, "workers": workers,
            "waiting": waiting, "free_bytes": free, "models": sorted(self.settings.models),
            "seconds": round(time.time() - self.started, 1),
        }  # fmt: skip


def open_station(settings: StationSettings) -> Station:
    """Prepares folders and database. Raises InputError for what the user can fix."""
    settings.root.mkdir(parents=True, exist_ok=True)
    spool = Spool(settings.spool, settings.max_bytes, settings.least_free)
    database = open_database(settings.database)
    check_owner(settings, database)
    spool.prepare()
    migrate(database)
    own_folder(settings, database)
    note_calibrations(settings, database)
    with database.write() as connection:
        record(connection, "station", "started", "station", models=sorted(settings.models))
        kept = (
            select(inspections.c.key).join(photographs)
            .where(photographs.c.removed_at.is_(None))
        )  # fmt: skip
        known = set(connection.execute(kept).scalars())
    if count := spool.sweep(known, settings.unclaimed):
        _log.warning("%d photographs of no inspection lie in '%s' now", count, settings.unclaimed)
    queue = Queue(database, spool, settings.max_queue)
    return Station(
        settings, database, queue, _engine(settings, database), Courier(settings, database),
        [Watcher(settings, watch, queue) for watch in settings.watches],
        Retention(settings, database),
    )  # fmt: skip


def _engine(settings: StationSettings, database: Database) -> Supervisor | RayEngine:
    if settings.engine == "ray":
        return RayEngine(settings, database, settings.ray_address)
    return Supervisor(settings, database)
