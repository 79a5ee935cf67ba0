"""The pages for people: templates filled with little; the scripts fetch the rest."""

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

import report

from .api import Key, read_form
from .history import inspection
from .security import COOKIE, same, session_of
from .server import Station
from .spool import Refused

_HERE = Path(__file__).parent
_WRONG_TOKEN_SECONDS = 1.0  # before a wrong token is answered


def pages(station: Station, token: str) -> APIRouter:
    """All addresses that a browser shows."""
    router = APIRouter(include_in_schema=False)
    viewer = Path(report.__file__).parent / "static" / "viewer.js"

    @router.get("/static/viewer.js")
    def three() -> FileResponse:
        return FileResponse(viewer, media_type="text/javascript")

    router.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    models = sorted(station.settings.models)

    def show(template: str, active: str, status: int = 200, **values: Any) -> HTMLResponse:
        text = environment.get_template(f"{template}.html.jinja").render(
            active=active, models=models, has_token=bool(token), **values
        )
        return HTMLResponse(text, status)

    def known(model: str) -> str:
        if model not in models:
            raise Refused(404, "there is no such model")
        return model

    @router.get("/")
    def live() -> HTMLResponse:
        return show("live", "live")

    @router.get("/inspections/{key}")
    def one(key: Key) -> HTMLResponse:
        found = inspection(station.database, key)
        return show("inspection", "live", key=key, model=found["model"])

    @router.get("/review")
    def review() -> HTMLResponse:
        return show("review", "review")

    @router.get("/models/{model}/threshold")
    def threshold(model: str) -> HTMLResponse:
        return show("threshold", "threshold", model=known(model))

    @router.get("/models/{model}/drift")
    def drift(model: str) -> HTMLResponse:
        return show("drift", "drift", model=known(model))

    @router.get("/audit")
    def audit() -> HTMLResponse:
        return show("audit", "audit")

    @router.get("/docs")
    def docs(request: Request) -> HTMLResponse:
        return show("docs", "docs", document=request.app.openapi())

    @router.get("/login")
    def login() -> HTMLResponse:
        return show("login", "login", wrong=False)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        form = await read_form(request, 0, 2)
        given = form.get("token", "")
        if not token or not isinstance(given, str) or not same(given, token):
            await asyncio.sleep(_WRONG_TOKEN_SECONDS)
            return show("login", "login", 401, wrong=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, session_of(token), httponly=True, samesite="strict",
                          secure=request.url.scheme == "https", max_age=12 * 3600)  # fmt: skip
        return answer

    return router
