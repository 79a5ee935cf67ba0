"""Photographs and pictures go by age and size, those of good parts first; the history stays."""

import shutil
import time
from dataclasses import dataclass

from sqlalchemy import Row, select, update

from .database import Database, record
from .history import LAST_REVIEWS
from .repeated import Repeated
from .settings import StationSettings
from .spool import Spool
from .tables import inspections, photographs, verdicts

_EVERY = 60.0  # seconds
_AT_ONCE = 100
_DAY = 86_400.0


@dataclass
class Retention:
    """Runs in a thread of the server where a limit is set."""

    settings: StationSettings
    database: Database
    _loop: Repeated | None = None

    def start(self) -> None:
        """Starts the thread."""
        if self.settings.keep_days or self.settings.keep_bytes:
            self._loop = Repeated("retention", _EVERY, lambda: self.apply(time.time()))
            self._loop.start()

    def stop(self) -> None:
        """Ends the thread."""
        if self._loop is not None:
            self._loop.stop()

    def apply(self, now: float) -> int:
        """Removes what is too old or too much; the number of inspections that lost pictures."""
        count = 0
        if self.settings.keep_days:
            limit = now - self.settings.keep_days * _DAY
            while rows := self._oldest(limit):
                count += self._remove(rows, "age")
        while self.settings.keep_bytes and self.used_bytes() > self.settings.keep_bytes:
            rows = self._oldest(now)
            if not rows:
                break
            count += self._remove(rows[:10], "size")
        return count

    def used_bytes(self) -> int:
        """Bytes of photographs, maps and pictures that are kept."""
        roots = (self.settings.spool, self.settings.pictures)
        return sum(
            path.stat().st_size for root in roots if root.is_dir()
            for path in root.rglob("*") if path.is_file()
        )  # fmt: skip

    def _oldest(self, before: float) -> list[Row]:
        """Answered inspections with pictures: good parts that nobody reviewed first, then by age.

        What people confirmed is what a recalibration stands on.
        """
        plain = (verdicts.c.verdict == "good") & LAST_REVIEWS.c.id.is_(None)
        query = (
            select(inspections.c.id, inspections.c.key, inspections.c.n_photographs)
            .join(verdicts, verdicts.c.inspection_id == inspections.c.id)
            .outerjoin(LAST_REVIEWS, LAST_REVIEWS.c.inspection_id == inspections.c.id)
            .where(inspections.c.accepted_at < before)
            .where(inspections.c.id.in_(
                select(photographs.c.inspection_id).where(photographs.c.removed_at.is_(None))
            ))
            .order_by(plain.desc(), inspections.c.id).limit(_AT_ONCE)
        )  # fmt: skip
        with self.database.read() as connection:
            return list(connection.execute(query).all())

    def _remove(self, rows: list[Row], why: str) -> int:
        """First the database says so, then the files go: no link ever points to nothing."""
        numbers = [row.id for row in rows]
        with self.database.write() as connection:
            connection.execute(
                update(photographs).where(photographs.c.inspection_id.in_(numbers))
                .values(removed_at=time.time())
            )  # fmt: skip
            for row in rows:
                record(connection, "station", "pictures removed", row.key, why=why)
        spool = Spool(self.settings.spool, 0, 0)
        for row in rows:
            spool.remove(row.key, range(row.n_photographs))
            shutil.rmtree(self.settings.pictures / row.key[:2] / row.key, ignore_errors=True)
        return len(rows)
