"""/metrics: figures of the station as Prometheus reads them."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from .history import counts
from .statistics import drifts
from .tables import inspections, verdicts

if TYPE_CHECKING:
    from .server import Station

_BUCKETS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds from acceptance to verdict


def metrics(station: "Station") -> str:
    """The text. Raises Unavailable."""
    with station.database.read() as connection:
        by_verdict = counts(connection)
        states: dict[str, int] = dict(connection.execute(
            select(inspections.c.state, func.count()).where(inspections.c.state != "done")
            .group_by(inspections.c.state)
        ).tuples().all())  # fmt: skip
        took = verdicts.c.finished_at - inspections.c.accepted_at
        alarms = [
            (f'{{model="{model}",quantity="{each.name}"}}', int(bool(each.alarm)))
            for model in sorted(station.settings.models) for each in drifts(connection, model)
        ]  # fmt: skip
        sums = connection.execute(
            select(func.count(), func.coalesce(func.sum(took), 0.0),
                   *(func.coalesce(func.sum(case((took <= b, 1), else_=0)), 0) for b in _BUCKETS))
            .select_from(verdicts).join(inspections)
        ).one()  # fmt: skip
    health = station.health()
    lines = [
        *_metric("inspections_total", "counter", "Inspections by model and verdict.", (
            (f'{{model="{model}",verdict="{verdict}"}}', count)
            for model, each in sorted(by_verdict.items())
            for verdict, count in sorted(each.items())
        )),
        *_metric("inspections_open", "gauge", "Inspections that wait or are in work.", (
            (f'{{state="{state}"}}', states.get(state, 0)) for state in ("queued", "running")
        )),
        *_metric("queue_limit_photographs", "gauge", "Photographs that may wait.",
                 [("", station.settings.max_queue)]),
        *_metric("workers", "gauge", "Worker processes that are alive.", [("", health["workers"])]),
        *_metric("worker_restarts_total", "counter", "Workers that were replaced.",
                 [("", station.supervisor.restarts)]),
        *_metric("disk_free_bytes", "gauge", "Room on the station's disk.",
                 [("", health["free_bytes"])]),
        *_metric("requests_refused_total", "counter", "Requests that were refused, by status.", (
            (f'{{status="{status}"}}', count) for status, count in sorted(station.refused.items())
        )),
        *_metric("drift_alarm", "gauge", "1 where a moving average has left its limits.", alarms),
        *_metric("healthy", "gauge", "1 where nothing is wrong.",
                 [("", int(health["status"] == "ok"))]),
        *_metric("seconds_to_verdict", "histogram", "From acceptance to verdict.", (
            *((f'_bucket{{le="{bound:g}"}}', count)
              for bound, count in zip(_BUCKETS, sums[2:], strict=True)),
            ('_bucket{le="+Inf"}', sums[0]), ("_sum", sums[1]), ("_count", sums[0]),
        )),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """One figure; a sample is what follows its name, and its value."""
    yield f"# HELP splatpose_{name} {text}"
    yield f"# TYPE splatpose_{name} {kind}"
    for rest, value in samples:
        yield f"splatpose_{name}{rest} {value}"
