"""What the station knows of its inspections, as JSON values."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, or_, select

from .database import Database, record
from .inspect_part import PICTURES
from .spool import Refused
from .tables import audit, inspections, photographs, reviews, tasks, thresholds, verdicts

ANSWERS = ("good", "defective", "unsure")
LARGEST_PAGE = 200
LAST_REVIEWS = (
    select(reviews.c.inspection_id, func.max(reviews.c.id).label("id"))
    .group_by(reviews.c.inspection_id).subquery("last_reviews")
)  # fmt: skip
_ROWS = (
    select(
        inspections.c.id, inspections.c.key, inspections.c.model, inspections.c.serial,
        inspections.c.source, inspections.c.n_photographs, inspections.c.accepted_at,
        inspections.c.state, inspections.c.progress,
        verdicts.c.verdict, verdicts.c.score, verdicts.c.threshold, verdicts.c.threshold_version,
        verdicts.c.finished_at, verdicts.c.seconds,
        reviews.c.answer.label("review"),
    )
    .outerjoin(verdicts, verdicts.c.inspection_id == inspections.c.id)
    .outerjoin(LAST_REVIEWS, LAST_REVIEWS.c.inspection_id == inspections.c.id)
    .outerjoin(reviews, reviews.c.id == LAST_REVIEWS.c.id)
)  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """Which inspections are listed; None: all."""

    model: str | None = None
    verdict: str | None = None  # also "open"
    serial: str | None = None  # contains it
    review: str | None = None  # an answer, or "none"
    since: float | None = None  # seconds since 1970
    until: float | None = None

    def apply(self, query: Select) -> Select:
        """The query with these conditions."""
        conditions = []
        if self.model is not None:
            conditions.append(inspections.c.model == self.model)
        if self.verdict == "open":
            conditions.append(inspections.c.state != "done")
        elif self.verdict is not None:
            conditions.append(verdicts.c.verdict == self.verdict)
        if self.serial is not None:
            conditions.append(inspections.c.serial.contains(self.serial, autoescape=True))
        if self.review == "none":
            conditions.append(reviews.c.answer.is_(None))
        elif self.review is not None:
            conditions.append(reviews.c.answer == self.review)
        if self.since is not None:
            conditions.append(inspections.c.accepted_at >= self.since)
        if self.until is not None:
            conditions.append(inspections.c.accepted_at < self.until)
        return query.where(and_(*conditions)) if conditions else query


def page(
    database: Database, wanted: Filter, before: int | None = None, limit: int = 50
) -> dict[str, Any]:
    """Inspections, the newest first; `next` is `before` of the next page, None at the end."""
    limit = max(1, min(limit, LARGEST_PAGE))
    query = wanted.apply(_ROWS).order_by(inspections.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(inspections.c.id < before)
    with database.read() as connection:
        rows = connection.execute(query).all()
    shown = rows[:limit]
    return {
        "inspections": [summary(row) for row in shown],
        "next": shown[-1].id if len(rows) > limit else None,
    }


def summary(row: Row) -> dict[str, Any]:
    """One line of a list."""
    found = dict(row._mapping)
    found.pop("progress")
    found["links"] = {"self": f"/api/inspections/{row.key}", "page": f"/inspections/{row.key}",
                      "thumbnail": _picture(row.key, 0, "thumbnail")}  # fmt: skip
    return found


def summaries(connection: Connection, keys: list[str]) -> dict[str, dict[str, Any]]:
    """Lines of a list for some inspections, by key."""
    rows = connection.execute(_ROWS.where(inspections.c.key.in_(keys))).all()
    return {row.key: summary(row) for row in rows}


def _picture(key: str, number: int, picture: str) -> str:
    return f"/api/inspections/{key}/photographs/{number}/{picture}"


def inspection(database: Database, key: str) -> dict[str, Any]:
    """Everything about one inspection. Raises Refused (404)."""
    with database.read() as connection:
        row = connection.execute(_ROWS.where(inspections.c.key == key)).first()
        if row is None:
            raise Refused(404, "there is no such inspection")
        images = connection.execute(
            select(photographs).where(photographs.c.inspection_id == row.id)
            .order_by(photographs.c.number)
        ).all()  # fmt: skip
        verdict = connection.execute(
            select(verdicts).where(verdicts.c.inspection_id == row.id)
        ).first()
        said = connection.execute(
            select(reviews.c.answer, reviews.c.who, reviews.c.at)
            .where(reviews.c.inspection_id == row.id).order_by(reviews.c.id)
        ).all()  # fmt: skip
    found = summary(row) | {"progress": row.progress}
    document = {} if verdict is None else verdict.document
    entries = document.get("images", [])
    found["photographs"] = [
        _photograph(key, each, entries[each.number] if each.number < len(entries) else None)
        for each in images
    ]
    found["object"] = document.get("object")
    found["error"] = document.get("error")
    if verdict is not None:
        found |= {name: getattr(verdict, name) for name in ("model_hash", "pose_loss", "exposure")}
    found["reviews"] = [dict(each._mapping) for each in said]
    return found


def _photograph(key: str, row: Row, entry: dict[str, Any] | None) -> dict[str, Any]:
    """One photograph with what was found in it, and links to its pictures."""
    found = {"number": row.number, "name": row.name, "sha256": row.sha256, "size": row.size,
             "removed": row.removed_at is not None}  # fmt: skip
    if entry is not None:
        found |= {name: value for name, value in entry.items() if name not in ("map", "label")}
    links = {"photograph": _picture(key, row.number, "photograph")}
    if entry is not None and entry["score"] is not None:
        links |= {name: _picture(key, row.number, name) for name in (*PICTURES, "values")}
    found["links"] = {} if row.removed_at is not None else links
    return found


def review(database: Database, key: str, answer: str, who: str) -> None:
    """Keeps what a person says of a part; the last word counts. Raises Refused."""
    if answer not in ANSWERS:
        raise Refused(422, f"a part is {', '.join(ANSWERS[:-1])} or {ANSWERS[-1]}")
    with database.write() as connection:
        row = connection.execute(
            select(inspections.c.id, inspections.c.state).where(inspections.c.key == key)
        ).first()
        if row is None:
            raise Refused(404, "there is no such inspection")
        if row.state != "done":
            raise Refused(409, "the part is not inspected yet: wait for its verdict")
        connection.execute(reviews.insert().values(
            inspection_id=row.id, answer=answer, who=who, at=time.time()
        ))  # fmt: skip
        record(connection, who, "reviewed", key, answer=answer)


def review_queue(database: Database, model: str | None, limit: int = 50) -> list[dict[str, Any]]:
    """What a person should look at, the most doubtful first.

    Parts without a verdict, then those whose score is nearest to the threshold, on either side.
    """
    ratio = verdicts.c.score / verdicts.c.threshold
    distance = func.abs(func.ln(ratio)) if not database.is_sqlite else func.max(ratio, 1 / ratio)
    doubtful = or_(
        verdicts.c.verdict.in_(("unknown", "defective")),
        and_(verdicts.c.verdict == "good", ratio > _DOUBTFUL),
    )
    query = Filter(model=model, review="none").apply(_ROWS).where(doubtful)
    query = query.order_by(
        (verdicts.c.verdict == "unknown").desc(), distance, inspections.c.id
    ).limit(limit)  # fmt: skip
    with database.read() as connection:
        return [summary(row) for row in connection.execute(query).all()]


_DOUBTFUL = 0.5  # of the threshold, from which on a good part is looked at


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    """Inspections by model and verdict."""
    rows = connection.execute(
        select(inspections.c.model, verdicts.c.verdict, func.count())
        .join(verdicts, verdicts.c.inspection_id == inspections.c.id)
        .group_by(inspections.c.model, verdicts.c.verdict)
    ).all()  # fmt: skip
    found: dict[str, dict[str, int]] = {}
    for model, verdict, count in rows:
        found.setdefault(model, {})[verdict] = count
    return found


def audit_page(database: Database, before: int | None, limit: int = 100) -> dict[str, Any]:
    """The audit log, the newest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(max(1, min(limit, LARGEST_PAGE)))
    if before is not None:
        query = query.where(audit.c.id < before)
    with database.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query).all()]
    return {"entries": rows, "next": rows[-1]["id"] if rows else None}


def versions(database: Database, model: str) -> list[dict[str, Any]]:
    """Versions of a model's threshold, the newest first."""
    query = select(thresholds).where(thresholds.c.model == model)
    with database.read() as connection:
        rows = connection.execute(query.order_by(thresholds.c.version.desc()).limit(100)).all()
    return [{k: v for k, v in row._mapping.items() if k != "id"} for row in rows]


def task_state(database: Database, key: str) -> dict[str, Any]:
    """How a task on a model stands. Raises Refused (404)."""
    names = ("key", "kind", "model", "state", "progress", "outcome")
    with database.read() as connection:
        row = connection.execute(
            select(*(tasks.c[name] for name in names)).where(tasks.c.key == key)
        ).first()
    if row is None:
        raise Refused(404, "there is no such task")
    return dict(row._mapping)
