"""Server-sent events: what happens, as it happens."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import func, select

from . import history
from .server import Station
from .tables import inspections, verdicts

_LOOK = 0.4  # seconds
_WINDOW = 50  # verdicts before the last that are looked at again: PostgreSQL commits out of order
_STILL = 15.0  # seconds after which a stream says that it is alive


async def station_events(station: Station, after: int | None) -> AsyncIterator[dict[str, Any]]:
    """Every verdict after the one with this number, and the queue whenever it changes."""
    last, told = after, set[int]()
    queue, silent = None, 0.0
    while True:
        rows, state = await asyncio.to_thread(_news, station, last)
        if last is None:
            last, rows = max((row["number"] for row in rows), default=0), []
        for row in sorted(rows, key=lambda row: row["number"]):
            number = row.pop("number")
            if number in told or (after is not None and number <= after):
                continue
            told.add(number)
            last, silent = max(last, number), 0.0
            yield {"event": "inspection", "id": number, "data": row}
        told = {number for number in told if number > last - 2 * _WINDOW}
        if state != queue or silent > _STILL:
            queue, silent = state, 0.0
            yield {"event": "queue", "data": state}
        await asyncio.sleep(_LOOK)
        silent += _LOOK


def _news(station: Station, last: int | None) -> tuple[list[dict[str, Any]], dict[str, int]]:
    numbers = select(verdicts.c.id, inspections.c.key).join(inspections)
    if last is None:
        numbers = numbers.order_by(verdicts.c.id.desc()).limit(1)
    else:
        numbers = numbers.where(verdicts.c.id > max(0, last - _WINDOW)).order_by(verdicts.c.id)
        numbers = numbers.limit(4 * _WINDOW)
    states = (
        select(inspections.c.state, func.count()).where(inspections.c.state != "done")
        .group_by(inspections.c.state)
    )  # fmt: skip
    with station.database.read() as connection:
        found = connection.execute(numbers).all()
        counted: dict[str, int] = dict(connection.execute(states).tuples().all())
        keys = [row.key for row in found]
        summaries = history.summaries(connection, keys)
    rows = [summaries[row.key] | {"number": row.id} for row in found]
    return rows, {"queued": counted.get("queued", 0), "running": counted.get("running", 0)}


async def inspection_events(station: Station, key: str) -> AsyncIterator[dict[str, Any]]:
    """How one inspection stands whenever that changes; ends with its verdict."""
    before = None
    while True:
        found = await asyncio.to_thread(history.inspection, station.database, key)
        state = {"state": found["state"], "progress": found["progress"]}
        if found["state"] == "done":
            yield {"event": "done", "data": found}
            return
        if state != before:
            before = state
            yield {"event": "progress", "data": state}
        await asyncio.sleep(_LOOK)
