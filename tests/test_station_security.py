"""Who may speak to the station, and what every answer says to a browser."""

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra 'station' is not installed here")
pytest.importorskip("python_multipart", reason="the extra 'station' is not installed here")

from sqlalchemy import select

from benchmarks.station_server import form
from pipeline.model_folder import ModelFolder
from scene import InputError
from station import history
from station.application import application
from station.database import open_database
from station.queue import Answer, answer, claim
from station.security import COOKIE, check_token, session_of
from station.server import open_station
from station.settings import StationSettings, named_models
from station.tables import inspections, tasks

TOKEN = "a secret of some length"
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100


class Client:
    """Speaks ASGI to the application; nothing runs but the request itself."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        named = {"host": "127.0.0.1:8008"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if body and "content-length" not in named:
            named["content-length"] = str(len(body))
        raw, _, query = path.partition("?")
        scope = {
            "type": "http", "method": method, "path": raw, "raw_path": raw.encode(),
            "query_string": query.encode(), "scheme": "http", "http_version": "1.1",
            "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8008),
            "headers": [(k.encode(), v.encode()) for k, v in named.items()],
        }  # fmt: skip
        chunks = [body[at : at + 65536] for at in range(0, len(body), 65536)] or [b""]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not chunks:
                return {"type": "http.disconnect"}
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        answered = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(each.get("body", b"") for each in sent[1:])


@pytest.fixture
def settings(ball_model: Path, tmp_path: Path) -> StationSettings:
    root = tmp_path / "station"
    return StationSettings(named_models((ball_model,)), root, f"sqlite:///{tmp_path / 's.db'}",
                           max_bytes=10_000, max_files=2, least_free=0)  # fmt: skip


@pytest.fixture
def local(settings: StationSettings) -> Iterator[Client]:
    station = open_station(settings)
    yield Client(application(station, "127.0.0.1", ""))
    station.database.engine.dispose()


@pytest.fixture
def public(settings: StationSettings) -> Iterator[Client]:
    station = open_station(settings)
    yield Client(application(station, "0.0.0.0", TOKEN))
    station.database.engine.dispose()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "line.example"])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(InputError, match="--token-file"):
        check_token(host, "")
    with pytest.raises(InputError, match="fewer than 16"):
        check_token(host, "short")
    check_token(host, TOKEN)
    for text in ("ein Schlüssel, der lang ist", "two lines\nof one secret"):
        with pytest.raises(InputError, match="no HTTP header"):
            check_token(host, text)
    check_token("127.0.0.1", "")


def test_without_the_token_nothing_but_the_login_is_answered(public: Client) -> None:
    for path in (
        "/",
        "/api/inspections",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/api/events",
        "/health",
    ):
        status, headers, body = public("GET", path)
        assert (status, headers["www-authenticate"]) == (401, "Bearer"), path
        assert b"token" in body
    wrong = {"authorization": "Bearer a secret of some lengt"}
    assert public("GET", "/api/inspections", **wrong)[0] == 401
    assert public("GET", "/api/inspections", cookie=f"{COOKIE}=x")[0] == 401
    assert public("GET", "/api/inspections", cookie=f"{COOKIE}={TOKEN}")[0] == 401
    assert public("GET", "/api/inspections", authorization=f"Bearer {TOKEN}")[0] == 200
    assert public("GET", "/login")[0] == 200


def test_a_browser_logs_in_and_keeps_no_token(public: Client) -> None:
    kind = "application/x-www-form-urlencoded"
    assert public("POST", "/login", b"token=wrong", content_type=kind)[0] == 401
    body = b"token=a+secret+of+some+length"
    status, headers, _ = public("POST", "/login", body, content_type=kind)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert public("GET", "/", cookie=f"{COOKIE}={session_of(TOKEN)}")[0] == 200


def test_other_sites_pages_and_rebound_names_are_refused(local: Client) -> None:
    body, kind = form([("a.png", PNG)])
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"},
                    {"sec_fetch_site": "cross-site"}, {"host": "evil.example:8008"}):  # fmt: skip
        status, _, answer = local("POST", "/api/inspect?wait=0", body, content_type=kind, **headers)
        assert status == 403, answer
    assert local("GET", "/", host="evil.example")[0] == 403
    own = {"origin": "http://127.0.0.1:8008"}
    assert local("POST", "/api/inspect?wait=0", body, content_type=kind, **own)[0] == 202


@pytest.mark.parametrize("path", ["/", "/review", "/api/inspections", "/nowhere", "/health",
                                  "/static/station.css", "/static/live.js"])  # fmt: skip
def test_every_answer_has_the_headers_that_protect_a_browser(local: Client, path: str) -> None:
    _, headers, body = local("GET", path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    if headers["content-type"].startswith("text/html"):
        text = body.decode()
        assert "<style" not in text
        assert " style=" not in text
        assert all(mark not in text for mark in ("onclick=", "onerror=", "javascript:", "http://",
                                                 "https://"))  # fmt: skip
        assert all('src="/static/' in tag for tag in text.split("<script")[1:])


def test_bodies_are_limited_before_anything_is_read(local: Client) -> None:
    stated = {"content_length": str(10**10), "content_type": "multipart/form-data; boundary=x"}
    assert local("POST", "/api/inspect", b"x", **stated)[0] == 413
    body, kind = form([("a.png", PNG + b"0" * 20_000)])
    assert local("POST", "/api/inspect?wait=0", body, content_type=kind)[0] == 413
    body, kind = form([("a.png", PNG)] * 3)
    assert local("POST", "/api/inspect?wait=0", body, content_type=kind)[0] == 413
    endless = b"x" * (3 * 2**20)  # more than is stated, as a client without a length sends
    unstated = {"content_type": "application/json", "content_length": "0"}
    assert local("POST", f"/api/inspections/{'0' * 32}/reviews", endless, **unstated)[0] == 413


@pytest.mark.parametrize("charset", ["punycode", "idna", "undefined", "nonsense", "utf-16"])
def test_forms_of_any_charset_are_answered(public: Client, charset: str) -> None:
    body, kind = form([("a-\xff\u20ac.png", PNG)], token="99999999")
    kind += f"; charset={charset}"
    known = {"authorization": f"Bearer {TOKEN}", "content_type": kind}
    status, _, answer = public("POST", "/api/inspect?wait=0", body, **known)
    assert status in (202, 400, 422), answer  # 422: its fields have other names then
    assert charset != "punycode" or (status == 400 and b"UTF-8" in answer)
    assert public("POST", "/login", body, content_type=kind)[0] in (400, 401)


def test_texts_of_clients_are_escaped_in_pages(local: Client) -> None:
    body, kind = form(
        [("<img src=x onerror=alert(1)>.png", PNG)], serial="<script>alert(1)</script>"
    )
    status, _, answer = local("POST", "/api/inspect?wait=0", body, content_type=kind)
    assert status == 202
    _, _, page = local("GET", f"/inspections/{json.loads(answer)['key']}")
    assert b"<script>alert" not in page
    assert b"<img src=x" not in page


@pytest.mark.parametrize(
    "path",
    ["/inspections/../../etc/passwd", "/api/inspections/%2e%2e", "/static/../serve.py",
     "/models/../../x/threshold", "/api/models/..%2fx/scores", "/static//etc/passwd"],
)  # fmt: skip
def test_no_path_reaches_the_file_system(local: Client, path: str) -> None:
    assert local("GET", path)[0] in (404, 422)


def test_the_server_names_no_program_and_no_folder_in_errors(
    local: Client, settings: StationSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    status, headers, body = local("GET", f"/api/inspections/{'a' * 32}")
    assert status == 404
    assert "server" not in headers
    assert str(settings.root) not in body.decode()
    assert "traceback" not in body.decode().lower()


def inspected(settings: StationSettings, client: Client, photograph: bytes) -> str:
    """A photograph that was inspected and confirmed to be good; its key."""
    body, kind = form([("a.png", photograph)])
    status, _, answered = client("POST", "/api/inspect?wait=0", body, content_type=kind)
    assert status == 202
    key = str(json.loads(answered)["key"])
    database = open_database(settings.database)
    job = claim(database, inspections, "w", 60.0)
    assert job is not None
    answer(database, job, "w", Answer("good", {"images": []}, 1.0), [])
    history.review(database, key, "good", "Ann")
    database.engine.dispose()
    return key


def posted(client: Client, path: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    body = json.dumps(fields | {"who": "Ann"}).encode()
    status, _, answered = client("POST", path, body, content_type="application/json")
    return status, json.loads(answered)


def test_the_same_photograph_confirmed_twice_counts_once(
    local: Client, settings: StationSettings
) -> None:
    keys = [inspected(settings, local, each) for each in (PNG, PNG + b"1", PNG)]
    assert posted(local, "/api/models/Ball/recalibrate")[0] == 202
    database = open_database(settings.database)
    with database.read() as connection:
        arguments = connection.execute(select(tasks.c.arguments)).scalar_one()
    database.engine.dispose()
    assert arguments["photographs"] == [[keys[1], 0], [keys[2], 0]]


def test_a_zone_is_painted_on_a_picture_of_its_own_model(
    ball_model: Path, settings: StationSettings, tmp_path: Path
) -> None:
    shutil.copytree(ball_model, tmp_path / "Other")
    both = replace(settings, models={"Ball": ball_model, "Other": tmp_path / "Other"})
    station = open_station(both)
    client = Client(application(station, "127.0.0.1", ""))
    body, kind = form([("a.png", PNG)], model="Ball")
    _, _, answered = client("POST", "/api/inspect?wait=0", body, content_type=kind)
    key = json.loads(answered)["key"]
    zone = {"name": "a", "kind": "ignore", "key": key, "number": 0, "runs": [[0, 9]]}
    assert posted(client, "/api/models/Ball/zones", **zone)[0] == 202
    status, found = posted(client, "/api/models/Other/zones", **zone)
    assert (status, found["error"]) == (
        409, "the picture shows a part of Ball: paint on one of Other"
    )  # fmt: skip
    assert posted(client, "/api/models/Ball/zones", **zone | {"key": "0" * 32})[0] == 404
    station.database.engine.dispose()


def test_a_database_that_is_removed_while_the_station_runs_is_noticed(
    local: Client, settings: StationSettings, tmp_path: Path
) -> None:
    body, kind = form([("a.png", PNG)])
    assert local("POST", "/api/inspect?wait=0", body, content_type=kind)[0] == 202
    path = tmp_path / "s.db"
    path.rename(tmp_path / "away.db")
    for replaced in (False, True):
        if replaced:
            path.write_bytes(b"")
        status, _, answer = local("POST", "/api/inspect?wait=0", body, content_type=kind)
        assert status == 503
        assert b"removed or replaced" in answer
        status, _, answer = local("GET", "/health")
        assert status == 503
        assert "removed or replaced" in " ".join(json.loads(answer)["troubles"])
    path.unlink()
    (tmp_path / "away.db").rename(path)
    assert local("POST", "/api/inspect?wait=0", body, content_type=kind)[0] == 202
    kept = [found for found in settings.spool.rglob("*") if found.is_file()]
    assert len(kept) == 2


def test_models_whose_names_collide_or_cannot_be_in_addresses_are_refused(tmp_path: Path) -> None:
    for name in ("a/mug", "b/mug", "c/a b"):
        ModelFolder(tmp_path / name).root.mkdir(parents=True)
    with pytest.raises(InputError, match="two folders"):
        named_models((tmp_path / "a/mug", tmp_path / "b/mug"))
    with pytest.raises(InputError, match="rename"):
        named_models((tmp_path / "c/a b",))
