"""The station as one ASGI application: interface, pages and guard together."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from scene import InputError

from .api import api
from .database import Unavailable
from .model_api import model_api
from .pages import pages
from .security import SMALL_BODY, Guard, is_loopback
from .server import Station
from .spool import Refused

_THREADS = 32  # that wait for the database and the disk
_log = logging.getLogger(__name__)


def application(station: Station, host: str, token: str) -> Guard:
    """Everything behind the guard."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        await asyncio.to_thread(station.start)
        looking = asyncio.create_task(station.look_for_verdicts())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.to_thread(station.stop)

    app = FastAPI(
        title="SplatPose inspection station", version="1", docs_url=None, redoc_url=None,
        lifespan=lifespan,
    )  # fmt: skip
    app.include_router(api(station))
    app.include_router(model_api(station))
    app.include_router(pages(station, token))
    _answer_errors(app, station)
    settings = station.settings
    most = settings.max_files * settings.max_bytes + SMALL_BODY
    return Guard(app, token, is_loopback(host), {"/api/inspect": most})


def _answer_errors(app: FastAPI, station: Station) -> None:
    """Every error is one sentence with the status that fits."""

    def answer(status: int, message: str) -> JSONResponse:
        station.refused[status] = station.refused.get(status, 0) + 1
        headers = {"retry-after": "2"} if status in (429, 503) else None
        return JSONResponse({"error": message}, status, headers)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return answer(error.status, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> JSONResponse:
        return answer(503, str(error))

    @app.exception_handler(InputError)
    async def input_error(_: Request, error: InputError) -> JSONResponse:
        return answer(409, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first: dict[str, Any] = dict(error.errors()[0])
        where = ".".join(map(str, first["loc"]))
        return answer(422, f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail))

    @app.exception_handler(OSError)
    async def system(_: Request, error: OSError) -> JSONResponse:
        _log.error("%s", error)
        return answer(507, f"the station cannot write: {error.strerror}")
