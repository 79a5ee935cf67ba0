"""HTTP interface to what people change about a model: threshold, calibration, zones."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select

from pipeline.model_folder import ModelFolder
from pipeline.zones import STRICTEST, load_zones
from scene import printable

from . import history
from .changes import add_task, add_threshold, current_threshold
from .history import LAST_REVIEWS
from .server import Station
from .spool import Refused
from .statistics import drifts, rate_of, score_evidence
from .tables import inspections, photographs, reviews, verdicts

_MOST_GOOD = 500  # photographs of one recalibration, the newest
Who = Annotated[str, Field(min_length=1, max_length=100)]


class Signed(BaseModel):
    """A change, and who makes it."""

    who: Who


class Chosen(Signed):
    """A threshold that a person chose."""

    value: float = Field(gt=0.0, lt=1e12, allow_inf_nan=False)


class Version(Signed):
    """A version to return to."""

    version: int = Field(ge=1, le=2**31 - 1)


class Painted(Signed):
    """A zone as it was painted on a picture: (start, length) of pixels in row-major order."""

    name: str = Field(min_length=1, max_length=80)
    kind: Literal["ignore", "strict"]
    factor: float = Field(default=2.0, ge=0.0, le=STRICTEST, allow_inf_nan=False)
    key: str = Field(pattern="^[0-9a-f]{32}$")
    number: int = Field(ge=0, le=1000)
    runs: list[tuple[int, int]] = Field(min_length=1, max_length=100_000)


class Named(Signed):
    """A zone to be erased."""

    name: str = Field(min_length=1, max_length=80)


def model_api(station: Station) -> APIRouter:
    """All addresses that begin with /api/models, and /api/tasks."""
    router = APIRouter()

    def known(model: str) -> str:
        if model not in station.settings.models:
            raise Refused(404, "there is no such model")
        return model

    def ordered(kind: str, model: str, arguments: dict[str, Any], who: str) -> dict[str, Any]:
        key = add_task(station.database, kind, known(model), arguments, printable(who))
        return {"task": key, "links": {"self": f"/api/tasks/{key}"}}

    @router.get("/api/models/{model}/scores")
    def scores(model: str) -> dict[str, Any]:
        """Scores of good images and of the history, with the intervals of their rates."""
        return score_evidence(station.settings, station.database, known(model))

    @router.get("/api/models/{model}/versions")
    def versions(model: str) -> dict[str, Any]:
        """Versions of the threshold, the newest first."""
        return {"versions": history.versions(station.database, known(model))}

    @router.post("/api/models/{model}/threshold", status_code=201)
    def choose(model: str, chosen: Chosen) -> dict[str, Any]:
        """Sets the threshold; it counts from the next inspection on."""
        rate = rate_of(station.settings, known(model), chosen.value)
        with station.database.write() as connection:
            before = current_threshold(connection, model)
            assert before is not None  # `note_calibrations` made the first
            version = add_threshold(
                connection, model, kind="chosen", value=chosen.value, rate=rate,
                snapshot=before.snapshot, who=printable(chosen.who),
            )  # fmt: skip
        return {"version": version, "false_alarm_rate": rate}

    @router.post("/api/models/{model}/undo", status_code=202)
    def undo(model: str, wanted: Version) -> dict[str, Any]:
        """Makes an earlier version count again, as a new one."""
        return ordered("restore", model, {"version": wanted.version}, wanted.who)

    @router.post("/api/models/{model}/recalibrate", status_code=202)
    def recalibrate(model: str, signed: Signed) -> dict[str, Any]:
        """Adds the parts that people confirmed to be good to the calibration."""
        chosen = _confirmed(station, known(model))
        if not chosen:
            raise Refused(409, "no part was confirmed to be good: review some first")
        return ordered("recalibrate", model, {"photographs": chosen}, signed.who)

    @router.get("/api/models/{model}/zones")
    def zones(model: str) -> dict[str, Any]:
        """The zones of a model."""
        folder = ModelFolder(station.settings.models[known(model)])
        found = load_zones(folder, folder.load_config()["settings"]["iterations"])
        return {"zones": [
            {"name": zone.name, "kind": zone.kind, "factor": zone.factor,
             "gaussians": int(zone.members.sum())} for zone in found
        ]}  # fmt: skip

    @router.post("/api/models/{model}/zones", status_code=202)
    def paint(model: str, painted: Painted) -> dict[str, Any]:
        """Adds a zone, or replaces the one of this name; painted on a picture of this model."""
        inspected = history.inspection(station.database, painted.key)["model"]
        if inspected != known(model):
            raise Refused(409, f"the picture shows a part of {inspected}: paint on one of {model}")
        arguments = painted.model_dump(exclude={"who"})
        return ordered("paint", model, arguments, painted.who)

    @router.post("/api/models/{model}/zones/erase", status_code=202)
    def erase(model: str, named: Named) -> dict[str, Any]:
        """Removes a zone."""
        return ordered("erase", model, {"name": named.name}, named.who)

    @router.get("/api/models/{model}/drift")
    def drift(model: str) -> dict[str, Any]:
        """Score, pose residual and exposure since the last calibration, with alarm limits."""
        with station.database.read() as connection:
            return {"charts": [each.as_json() for each in drifts(connection, known(model))]}

    @router.get("/api/tasks/{key}")
    def task(key: str) -> dict[str, Any]:
        """How a change stands."""
        return history.task_state(station.database, key)

    return router


def _confirmed(station: Station, model: str) -> list[list[Any]]:
    """Photographs of parts whose last review says good, each once, the newest last."""
    query = (
        select(inspections.c.key, photographs.c.number, photographs.c.sha256)
        .join(photographs, photographs.c.inspection_id == inspections.c.id)
        .join(verdicts, verdicts.c.inspection_id == inspections.c.id)
        .join(LAST_REVIEWS, LAST_REVIEWS.c.inspection_id == inspections.c.id)
        .join(reviews, reviews.c.id == LAST_REVIEWS.c.id)
        .where(inspections.c.model == model, reviews.c.answer == "good",
               photographs.c.removed_at.is_(None), verdicts.c.verdict != "error")
        .order_by(inspections.c.id.desc(), photographs.c.number)
    )  # fmt: skip
    found: dict[str, list[Any]] = {}  # by what is in the file: the same one twice says nothing new
    with station.database.read() as connection:
        for row in connection.execute(query):
            found.setdefault(row.sha256, [row.key, row.number])
            if len(found) == _MOST_GOOD:
                break
    return list(found.values())[::-1]
