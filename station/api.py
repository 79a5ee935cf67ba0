"""The station's HTTP interface: photographs in, verdicts and history out."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import select
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from scene import printable

from . import history
from .changes import add_task
from .events import inspection_events, station_events
from .inspect_part import PICTURES, picture_path, scene_path
from .metrics import metrics
from .queue import Order, Upload
from .server import Station
from .spool import Refused
from .tables import inspections, photographs

_LONGEST_WAIT = 60.0  # seconds
_FIELDS = 8  # of a form, beside photographs
_STREAMS = 64  # clients that listen at once
Key = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Before = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=history.LARGEST_PAGE)]
Moment = Annotated[float | None, Query(allow_inf_nan=False)]
Picture = Literal["photograph", "values", "thumbnail", "query", "rendering", "map", "overlay"]
Number = Annotated[int, Path(ge=0, le=1000)]
_FORM = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
        "type": "object", "required": ["photographs"],
        "properties": {
            "photographs": {"type": "array", "items": {"type": "string", "format": "binary"},
                            "description": "one or several photographs of one part"},
            "model": {"type": "string", "description": "may be left out where there is one model"},
            "serial": {"type": "string", "description": "serial number of the part"},
        },
    }}}}
}  # fmt: skip


class Answer(BaseModel):
    """What a person says of a part."""

    answer: Literal["good", "defective", "unsure"]
    who: str = Field(min_length=1, max_length=100)


def api(station: Station) -> APIRouter:
    """All addresses of the interface."""
    router = APIRouter()
    streams = asyncio.Semaphore(_STREAMS)

    @router.post("/api/inspect", openapi_extra=_FORM, responses={202: {}, 413: {}, 429: {}})
    async def inspect(
        request: Request, wait: Annotated[float, Query(ge=0.0, le=_LONGEST_WAIT)] = 30.0
    ) -> JSONResponse:
        """Inspects one part. 200 with the verdict, or 202 where it takes longer than `wait`.

        In both cases the photographs are kept, and get a verdict whatever happens.
        """
        order, uploads = await _read_form(request, station)
        await asyncio.to_thread(station.queue.refuse_when_full, len(uploads))
        key = await asyncio.to_thread(station.queue.accept, order, uploads)
        assert key is not None  # only watched files have a key of their own
        done = wait > 0 and await station.wait_for(key, wait)
        found = await asyncio.to_thread(history.inspection, station.database, key)
        headers = {"location": f"/api/inspections/{key}"}
        return JSONResponse(found, 200 if done else 202, headers)

    @router.get("/api/inspections")
    def list_inspections(
        model: str | None = None,
        verdict: Literal["good", "defective", "unknown", "error", "open"] | None = None,
        serial: Annotated[str | None, Query(max_length=200)] = None,
        review: Literal["good", "defective", "unsure", "none"] | None = None,
        since: Moment = None,
        until: Moment = None,
        before: Before = None,
        limit: Limit = 50,
    ) -> dict[str, Any]:
        """Inspections, the newest first; `next` is `before` of the next page."""
        wanted = history.Filter(model, verdict, serial, review, since, until)
        return history.page(station.database, wanted, before, limit)

    @router.get("/api/inspections/{key}")
    def one(key: Key) -> dict[str, Any]:
        """Everything about one inspection."""
        return history.inspection(station.database, key)

    @router.get("/api/inspections/{key}/events")
    async def follow(key: Key) -> StreamingResponse:
        """Server-sent events until the verdict: queue, progress, done."""
        return await _stream(streams, inspection_events(station, key))

    @router.get("/api/events")
    async def events(request: Request) -> StreamingResponse:
        """Server-sent events: every verdict, and how many photographs wait."""
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isdigit() and len(last) < 18 else None
        return await _stream(streams, station_events(station, after))

    @router.post("/api/inspections/{key}/reviews", status_code=201)
    def review(key: Key, said: Answer) -> dict[str, Any]:
        """What a person says of the part; the last word counts."""
        history.review(station.database, key, said.answer, printable(said.who))
        return history.inspection(station.database, key)

    @router.get("/api/inspections/{key}/photographs/{number}/{picture}")
    def picture(
        key: Key, number: Number,
        picture: Picture,
    ) -> FileResponse:  # fmt: skip
        """A picture (JPEG), the photograph as it came, or the map's values (32-bit TIFF)."""
        return _picture(station, key, number, picture)

    @router.post("/api/inspections/{key}/scene", status_code=202)
    def order_scene(key: Key) -> dict[str, Any]:
        """Has the scene of the 3D viewer made; a task."""
        found = history.inspection(station.database, key)
        if found["state"] != "done" or found["score"] is None:
            raise Refused(409, "there is nothing to show: the part has no score")
        task = add_task(station.database, "scene", found["model"], {"key": key}, "page")
        return {"task": task, "links": {"self": f"/api/tasks/{task}"}}

    @router.get("/api/inspections/{key}/scene")
    def scene(key: Key) -> FileResponse:
        """The object in 3D with its defects, as report/viewer_data.py says."""
        path = scene_path(station.settings.pictures, key)
        if not path.is_file():
            raise Refused(404, "the scene is not made yet: order it (POST)")
        return FileResponse(path, media_type="application/json")

    @router.get("/api/review")
    def doubtful(model: str | None = None, limit: Limit = 50) -> dict[str, Any]:
        """Parts that a person should look at, the most doubtful first."""
        return {"inspections": history.review_queue(station.database, model, limit)}

    @router.get("/api/audit")
    def audit(before: Before = None, limit: Limit = 100) -> dict[str, Any]:
        """The audit log, the newest first."""
        return history.audit_page(station.database, before, limit)

    @router.get("/health")
    def health() -> JSONResponse:
        """200 where all is well, 503 where something is wrong."""
        found = station.health()
        return JSONResponse(found, 200 if found["status"] == "ok" else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    def figures() -> PlainTextResponse:
        """Figures in Prometheus's text format."""
        return PlainTextResponse(metrics(station), media_type="text/plain; version=0.0.4")

    return router


async def read_form(request: Request, max_files: int, max_fields: int) -> FormData:
    """The form of a request. Raises Refused for a charset in which its texts cannot be read."""
    try:
        return await request.form(max_files=max_files, max_fields=max_fields)
    except (LookupError, ValueError) as error:  # of the codec that the client names
        raise Refused(400, "the form's texts cannot be read: send it as UTF-8") from error


async def _read_form(request: Request, station: Station) -> tuple[Order, list[Upload]]:
    """The photographs and fields of a request; raises Refused."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Refused(415, "send a form (multipart/form-data) with the field 'photographs'")
    most = station.settings.max_files
    try:
        form = await read_form(request, most, _FIELDS)
    except HTTPException as error:
        raise Refused(413 if "Too many" in error.detail else 400, error.detail) from error
    files = [each for each in form.getlist("photographs") if isinstance(each, UploadFile)]
    if not files:
        raise Refused(422, "the form has no file in the field 'photographs'")
    for each in files:
        if each.size is not None and each.size > station.settings.max_bytes:
            limit = station.settings.max_bytes / 2**20
            raise Refused(413, f"'{printable(each.filename or '')}' has more than {limit:.4g} MiB")
    texts = {name: value for name in ("model", "serial", "source")
             if isinstance(value := form.get(name), str) and value}  # fmt: skip
    model = texts.get("model")
    if model is None and len(station.settings.models) == 1:
        model = next(iter(station.settings.models))
    if model not in station.settings.models:
        known = ", ".join(sorted(station.settings.models))
        raise Refused(422, f"name the model of the part in the field 'model': {known}")
    serial = printable(texts["serial"].strip())[:200] if "serial" in texts else None
    source = "page" if texts.get("source") == "page" else "api"
    uploads = [Upload(each.filename or "photograph", each.file) for each in files]
    return Order(model, serial or None, source), uploads


def _picture(station: Station, key: str, number: int, picture: str) -> FileResponse:
    """The file of a picture that the database knows of."""
    with station.database.read() as connection:
        row = connection.execute(
            select(photographs.c.removed_at).join(inspections)
            .where(inspections.c.key == key, photographs.c.number == number)
        ).first()  # fmt: skip
    if row is None or row.removed_at is not None:
        raise Refused(404, "there is no such picture, or it was removed to make room")
    if picture == "photograph":
        path = station.queue.spool.path(key, number)
        kind, name = "application/octet-stream", f"{key}-{number}"
    elif picture == "values":
        path = station.settings.pictures / key[:2] / key / "maps" / f"{number}.tiff"
        kind, name = "image/tiff", f"{key}-{number}.tiff"
    else:
        assert picture in PICTURES
        path = picture_path(station.settings.pictures, key, number, picture)
        kind, name = "image/jpeg", None
    if not path.is_file():
        raise Refused(404, "there is no such picture")
    headers = {"cache-control": "private, max-age=86400, immutable"}
    return FileResponse(path, media_type=kind, filename=name, headers=headers)


async def _stream(
    streams: asyncio.Semaphore, source: AsyncIterator[dict[str, Any]]
) -> StreamingResponse:
    """Server-sent events from values with `event`, `data` and, it may be, `id`."""
    if streams.locked():
        raise Refused(503, "too many clients listen: try again later")

    async def lines() -> AsyncIterator[str]:
        async with streams:
            async for each in source:
                if "id" in each:
                    yield f"id: {each['id']}\n"
                yield f"event: {each['event']}\ndata: {json.dumps(each['data'])}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
