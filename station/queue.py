"""The queue: photographs accepted once, claimed by one worker at a time, answered once.

A claim is a lease: who dies, or shows no sign of life, loses it, and another worker takes the
inspection up. Two workers may so come to answer the same one; the first answer counts, by the
unique constraint of the table of verdicts.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from sqlalchemy import Connection, Row, Table, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from scene import printable

from .database import Database, record
from .spool import Refused, Spool, Stored
from .tables import (
    deliveries,
    inspections,
    photographs,
    schema_versions,
    tasks,
    verdicts,
)

_LONGEST_NAME = 300


@dataclass(frozen=True)
class Upload:
    """One photograph that is offered."""

    name: str
    stream: IO[bytes]


@dataclass(frozen=True)
class Order:
    """What is to be inspected, beside the photographs."""

    model: str
    serial: str | None
    source: str  # api, page or watch
    source_key: str | None = None


@dataclass(frozen=True)
class Queue:
    """Accepts and gives out work."""

    database: Database
    spool: Spool
    max_queue: int  # photographs

    def accept(
        self, order: Order, uploads: Sequence[Upload], still_whole: Callable[[], bool] | None = None
    ) -> str | None:
        """Takes photographs of one part; they are on the disk and in the database on return.

        Returns the inspection's key, or None where the same `source_key` was accepted before, or
        `still_whole` says that the files changed while they were copied.

        Raises Refused or Unavailable; then nothing is kept.
        """
        self.refuse_when_full(len(uploads))
        key, numbers = secrets.token_hex(16), range(len(uploads))
        try:
            stored = [
                self.spool.store(key, number, _name(upload.name), upload.stream)
                for number, upload in enumerate(uploads)
            ]
            if still_whole is not None and not still_whole():
                self.spool.remove(key, numbers)
                return None
            self._insert(key, order, stored)
        except IntegrityError:
            self.spool.remove(key, numbers)
            return None
        except BaseException:
            self.spool.remove(key, numbers)
            raise
        return key

    def _insert(self, key: str, order: Order, stored: Sequence[Stored]) -> None:
        with self.database.write() as connection:
            # One after the other also in PostgreSQL, or the limit would be passed together.
            connection.execute(select(schema_versions.c.version).with_for_update())
            if _waiting(connection) + len(stored) > self.max_queue:
                raise _full()
            number = connection.execute(
                inspections.insert().values(
                    key=key, model=order.model, serial=order.serial, source=order.source,
                    source_key=order.source_key, n_photographs=len(stored), accepted_at=time.time(),
                    state="queued", attempts=0,
                ).returning(inspections.c.id)
            ).scalar_one()  # fmt: skip
            connection.execute(photographs.insert(), [
                {"inspection_id": number, "number": place, "name": each.name,
                 "sha256": each.sha256, "size": each.size}
                for place, each in enumerate(stored)
            ])  # fmt: skip
            hashes = [each.sha256 for each in stored]
            record(connection, order.source, "accepted", key, model=order.model, sha256=hashes)

    def refuse_for_good(self, order: Order, reason: str) -> None:
        """Keeps that a part cannot be inspected, where nobody waits for an answer: an error."""
        key = secrets.token_hex(16)
        try:
            with self.database.write() as connection:
                connection.execute(inspections.insert().values(
                    key=key, model=order.model, serial=order.serial, source=order.source,
                    source_key=order.source_key, n_photographs=0, accepted_at=time.time(),
                    state="queued", attempts=0, failure=reason,
                ))  # fmt: skip
                record(connection, order.source, "refused", key, reason=reason)
        except IntegrityError:  # said before
            return

    def refuse_when_full(self, more: int) -> None:
        """Raises Refused (429) when so many photographs have no room."""
        with self.database.read() as connection:
            if _waiting(connection) + more > self.max_queue:
                raise _full()

    def waiting(self) -> int:
        """Photographs that wait or are in work."""
        with self.database.read() as connection:
            return _waiting(connection)


def _waiting(connection: Connection) -> int:
    open_ones = inspections.c.state.in_(("queued", "running"))
    total = func.coalesce(func.sum(inspections.c.n_photographs), 0)
    return int(connection.execute(select(total).where(open_ones)).scalar_one())


def _full() -> Refused:
    return Refused(429, "the queue is full: send the photograph again in some seconds")


def _name(name: str) -> str:
    return printable(name)[:_LONGEST_NAME] or "photograph"


def claim(database: Database, table: Table, owner: str, lease: float) -> Row | None:
    """The oldest open row of inspections or tasks, now this owner's; None when all are taken."""
    now = time.time()
    is_free = or_(
        table.c.state == "queued",
        and_(table.c.state == "running", table.c.lease_until < now),
    )
    oldest = select(table.c.id).where(is_free).order_by(table.c.id).limit(1)
    with database.read() as connection:  # an idle worker keeps nobody from writing
        if connection.execute(oldest).first() is None:
            return None
    chosen = oldest.with_for_update(skip_locked=True).scalar_subquery()
    with database.write() as connection:
        return connection.execute(
            update(table).where(table.c.id == chosen, is_free).values(
                state="running", owner=owner, attempts=table.c.attempts + 1, started_at=now,
                lease_until=now + lease, progress=None,
            ).returning(table)
        ).first()  # fmt: skip


def renew(database: Database, table: Table, number: int, owner: str, lease: float) -> None:
    """A sign of life."""
    with database.write() as connection:
        connection.execute(
            update(table)
            .where(table.c.id == number, table.c.owner == owner, table.c.state == "running")
            .values(lease_until=time.time() + lease)
        )


def say_progress(database: Database, table: Table, number: int, owner: str, text: str) -> None:
    """What is being done, for those who wait."""
    with database.write() as connection:
        connection.execute(
            update(table).where(table.c.id == number, table.c.owner == owner).values(progress=text)
        )


def give_back(
    database: Database, owner: str, reason: str, counts: bool = True, number: int | None = None
) -> None:
    """Puts what a worker holds back into the queue, where it keeps its place.

    `counts`: as an attempt, since the work itself may have killed the worker. `number`: of the one
    inspection that is given back; else all that the worker holds.
    """
    with database.write() as connection:
        for table in (inspections,) if number is not None else (inspections, tasks):
            mine = and_(table.c.owner == owner, table.c.state == "running")
            if number is not None:
                mine = and_(mine, table.c.id == number)
            attempts = table.c.attempts if counts else table.c.attempts - 1
            connection.execute(update(table).where(mine).values(
                state="queued", owner=None, lease_until=None, attempts=attempts, failure=reason,
            ))  # fmt: skip


def is_overdue(database: Database, owner: str, seconds: float) -> bool:
    """Whether a worker has been at one inspection for longer than this."""
    query = select(inspections.c.id).where(
        inspections.c.owner == owner, inspections.c.state == "running",
        inspections.c.started_at < time.time() - seconds,
    )  # fmt: skip
    with database.read() as connection:
        return connection.execute(query).first() is not None


@dataclass(frozen=True)
class Answer:
    """What is kept of one inspection."""

    verdict: str  # good, defective, unknown, error
    document: dict[str, Any]
    score: float | None = None
    threshold: float | None = None
    threshold_version: int | None = None
    model_hash: str | None = None
    pose_loss: float | None = None
    exposure: float | None = None
    seconds: float = 0.0


def answer(
    database: Database, inspection: Row, owner: str, found: Answer, sinks: Sequence[str]
) -> bool:
    """Keeps the verdict, and who is to be told of it, in one transaction.

    False where the inspection was answered before; then nothing changes.
    """
    now = time.time()
    values = {name: getattr(found, name) for name in found.__dataclass_fields__}
    try:
        with database.write() as connection:
            connection.execute(verdicts.insert().values(
                inspection_id=inspection.id, worker=owner, finished_at=now, **values
            ))  # fmt: skip
            connection.execute(
                update(inspections).where(inspections.c.id == inspection.id)
                .values(state="done", owner=None, lease_until=None, progress=None)
            )  # fmt: skip
            for sink in sinks:
                connection.execute(deliveries.insert().values(
                    inspection_id=inspection.id, sink=sink, attempts=0, next_at=now
                ))  # fmt: skip
            record(connection, "station", "inspected", inspection.key, verdict=found.verdict,
                   score=found.score, threshold=found.threshold,
                   threshold_version=found.threshold_version,
                   model_hash=found.model_hash)  # fmt: skip
    except IntegrityError:
        return False
    return True
