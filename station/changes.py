"""Changes that people make to a model: tasks for the workers, and versions of its threshold."""

import secrets
import time
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from .database import Database, record
from .spool import Refused
from .tables import tasks, thresholds


def add_task(database: Database, kind: str, model: str, arguments: dict[str, Any], who: str) -> str:
    """Orders work on a model; its key. One of a kind may wait for each model."""
    key = secrets.token_hex(16)
    with database.write() as connection:
        same = select(tasks.c.id).where(
            tasks.c.kind == kind, tasks.c.model == model, tasks.c.state != "done"
        )
        if kind == "recalibrate" and connection.execute(same).first() is not None:
            raise Refused(409, f"{model} is being recalibrated already: wait for it")
        connection.execute(tasks.insert().values(
            key=key, kind=kind, model=model, arguments=arguments, who=who,
            accepted_at=time.time(), state="queued", attempts=0,
        ))  # fmt: skip
        record(connection, who, f"asked to {kind}", model, task=key)
    return key


def end_task(
    database: Database,
    task: Row,
    owner: str,
    message: str,
    ok: bool,
    threshold: dict[str, Any] | None = None,  # a new version, in the same transaction
) -> None:
    """Keeps what came of a task."""
    with database.write() as connection:
        done = connection.execute(
            update(tasks)
            .where(tasks.c.id == task.id, tasks.c.owner == owner, tasks.c.state == "running")
            .values(state="done", owner=None, lease_until=None,
                    outcome={"ok": ok, "message": message})
        )  # fmt: skip
        if done.rowcount == 0:  # its lease ran out, and another worker does it
            return
        if threshold is not None:
            add_threshold(connection, task.model, who=task.who, **threshold)
        record(connection, task.who, task.kind, task.model, ok=ok, message=message)


def add_threshold(connection: Connection, model: str, **values: Any) -> int:
    """A new version of a model's threshold; its number."""
    newest = select(func.coalesce(func.max(thresholds.c.version), 0)).where(
        thresholds.c.model == model
    )
    version = int(connection.execute(newest).scalar_one()) + 1
    values = {"details": {}, "value": None, "rate": None} | values
    connection.execute(
        thresholds.insert().values(model=model, version=version, at=time.time(), **values)
    )
    record(connection, values["who"], "threshold", model, version=version, kind=values["kind"],
           value=values["value"], snapshot=values["snapshot"])  # fmt: skip
    return version


def current_threshold(connection: Connection, model: str) -> Row | None:
    """The version that counts."""
    return connection.execute(
        select(thresholds).where(thresholds.c.model == model)
        .order_by(thresholds.c.version.desc()).limit(1)
    ).first()  # fmt: skip
