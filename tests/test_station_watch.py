"""Watched folders, messages and retention: once each, also after restarts and failures."""

import hashlib
import hmac
import http.server
import io
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'station' is not installed here")

import torch
from sqlalchemy import select

from scene import InputError, atomic_write, refuse_inside
from station import history
from station.database import Database, migrate, open_database
from station.inspect_part import picture_path
from station.queue import Answer, Order, Queue, Upload, answer, claim
from station.repeated import Repeated
from station.retention import Retention
from station.settings import StationSettings, Watch
from station.sinks import Courier, sink_names
from station.spool import Spool
from station.tables import deliveries, inspections
from station.watch import Watcher

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100
LATER = 1e6  # seconds, by which every file has settled


@pytest.fixture
def settings(tmp_path: Path) -> StationSettings:
    (tmp_path / "incoming").mkdir()
    return StationSettings(
        models={"mug": tmp_path / "mug"}, root=tmp_path / "station",
        database=f"sqlite:///{tmp_path / 'station.db'}", least_free=0,
        watches=(Watch("mug", tmp_path / "incoming"),), max_queue=100,
        results=tmp_path / "results",
    )  # fmt: skip


@pytest.fixture
def database(settings: StationSettings) -> Database:
    found = open_database(settings.database)
    migrate(found)
    return found


@pytest.fixture
def queue(settings: StationSettings, database: Database) -> Queue:
    spool = Spool(settings.spool, settings.max_bytes, settings.least_free)
    spool.prepare()
    return Queue(database, spool, settings.max_queue)


@pytest.fixture
def watcher(settings: StationSettings, queue: Queue) -> Watcher:
    return Watcher(settings, settings.watches[0], queue)


def serials(database: Database) -> list[str]:
    found = history.page(database, history.Filter())["inspections"]
    return sorted(each["serial"] for each in found)


def look_twice(watcher: Watcher) -> int:
    now = time.monotonic()
    return watcher.look(now) + watcher.look(now + LATER)


def test_new_images_are_taken_once_also_by_another_watcher(
    watcher: Watcher, settings: StationSettings, queue: Queue, database: Database
) -> None:
    root = settings.watches[0].folder
    (root / "A-1.png").write_bytes(PNG)
    (root / "notes.txt").write_bytes(b"not an image")
    (root / ".hidden.png").write_bytes(PNG)
    assert look_twice(watcher) == 1
    assert look_twice(watcher) == 0
    assert look_twice(Watcher(settings, settings.watches[0], queue)) == 0  # after a restart
    assert serials(database) == ["A-1"]
    assert sorted(path.name for path in root.iterdir()) == [".hidden.png", "A-1.png", "notes.txt"]


def test_half_written_files_are_waited_for(
    watcher: Watcher, settings: StationSettings, database: Database
) -> None:
    path, now = settings.watches[0].folder / "A.png", time.monotonic()
    path.write_bytes(PNG[:50])
    assert watcher.look(now) == 0
    assert watcher.look(now + 0.5 * settings.settle) == 0
    path.write_bytes(PNG)
    assert watcher.look(now + 1.5 * settings.settle) == 0
    assert watcher.look(now + 3 * settings.settle) == 1
    found = history.page(database, history.Filter())["inspections"][0]
    stored = history.inspection(database, found["key"])["photographs"][0]
    assert stored["sha256"] == hashlib.sha256(PNG).hexdigest()


def test_a_file_that_changes_while_it_is_copied_is_taken_later(
    watcher: Watcher, settings: StationSettings, database: Database, monkeypatch: Any
) -> None:
    path, now = settings.watches[0].folder / "A.png", time.monotonic()
    path.write_bytes(PNG)
    watcher.look(now)
    store = Spool.store

    def grows(spool: Spool, *arguments: Any) -> Any:
        with open(path, "ab") as file:
            file.write(b"more")
        return store(spool, *arguments)

    monkeypatch.setattr(Spool, "store", grows)
    assert watcher.look(now + LATER) == 0
    assert serials(database) == []
    monkeypatch.setattr(Spool, "store", store)
    assert watcher.look(now + 2 * LATER) == 0
    assert watcher.look(now + 3 * LATER) == 1


def test_sub_folders_are_parts_and_another_picture_makes_a_new_inspection(
    watcher: Watcher, settings: StationSettings, database: Database
) -> None:
    part = settings.watches[0].folder / "part 7"
    part.mkdir()
    for number in range(3):
        (part / f"{number}.png").write_bytes(PNG + b"%d" % number)
    assert look_twice(watcher) == 1
    (part / "3.png").write_bytes(PNG)
    assert look_twice(watcher) == 1
    found = history.page(database, history.Filter())["inspections"]
    assert [(each["serial"], each["n_photographs"]) for each in found] == [("part 7", 4),
                                                                         ("part 7", 3)]  # fmt: skip


def test_files_that_cannot_be_read_are_named_and_the_others_go_on(
    watcher: Watcher, settings: StationSettings, database: Database, monkeypatch: Any
) -> None:
    root = settings.watches[0].folder
    (root / "0 loop.png").symlink_to(root / "0 loop.png")
    (root / "part").mkdir()
    (root / "part" / "loop.png").symlink_to("loop.png")
    for name in ("1 secret.png", "part/a.png", "z.png"):
        (root / name).write_bytes(PNG)

    def guarded(path: Path, mode: str) -> Any:  # as for a file of mode 0, which root can read
        if path.name == "1 secret.png":
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, mode)

    monkeypatch.setattr("station.watch.open", guarded, raising=False)
    assert look_twice(watcher) == 1
    assert serials(database) == ["z"]
    for name in ("0 loop.png", "1 secret.png' (Permission denied)", "part/loop.png"):
        assert name in watcher.trouble
    monkeypatch.undo()
    for path in (root / "0 loop.png", root / "part" / "loop.png"):
        path.unlink()
    assert look_twice(watcher) == 2
    assert serials(database) == ["1 secret", "part", "z"]
    assert watcher.trouble == ""


def test_what_can_never_be_inspected_is_said_once(
    watcher: Watcher, settings: StationSettings, database: Database
) -> None:
    root = settings.watches[0].folder
    (root / "script.png").write_bytes(b"#!/bin/sh")
    (root / "empty.png").write_bytes(b"")
    (root / "many").mkdir()
    for number in range(settings.max_files + 1):
        (root / f"many/{number}.png").write_bytes(PNG)
    assert look_twice(watcher) == 3
    assert look_twice(watcher) == 0
    assert serials(database) == ["empty", "many", "script"]
    with database.read() as connection:
        reasons = sorted(connection.execute(select(inspections.c.failure)).scalars())
    wanted = ("is empty", "no image file", "at most 16 photographs")
    assert all(text in reason for text, reason in zip(wanted, reasons, strict=True))


def test_a_watched_folder_that_vanishes_is_named_and_looked_for(
    watcher: Watcher, settings: StationSettings, database: Database
) -> None:
    root = settings.watches[0].folder
    shutil.rmtree(root)
    assert look_twice(watcher) == 0
    assert str(root) in watcher.trouble
    root.mkdir()
    (root / "A.png").write_bytes(PNG)
    assert look_twice(watcher) == 1
    assert watcher.trouble == ""


def test_a_full_queue_makes_the_watcher_wait(
    watcher: Watcher, settings: StationSettings, database: Database
) -> None:
    watcher.queue = replace(watcher.queue, max_queue=2)
    for number in range(4):
        (settings.watches[0].folder / f"{number}.png").write_bytes(PNG + b"%d" % number)
    assert look_twice(watcher) == 2
    while (job := claim(database, inspections, "w", 60)) is not None:
        answer(database, job, "w", Answer("good", {"images": []}), [])
    assert look_twice(watcher) == 2


def test_a_full_disk_is_507_and_keeps_nothing(queue: Queue, monkeypatch: Any) -> None:
    import errno

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    from station.spool import Refused

    with pytest.raises(Refused, match="disk is full") as caught:
        queue.accept(Order("mug", None, "api"), [Upload("a.png", io.BytesIO(PNG))])
    assert caught.value.status == 507
    assert not [path for path in queue.spool.root.rglob("*") if path.is_file()]


def finished(database: Database, queue: Queue, settings: StationSettings, verdict: str) -> str:
    """One inspection with an answer and a picture; its key."""
    key = queue.accept(Order("mug", "=cmd", "api"), [Upload("a.png", io.BytesIO(PNG))])
    job = claim(database, inspections, "w", 60)
    assert key is not None
    assert job is not None
    with atomic_write(picture_path(settings.pictures, key, 0, "query")) as file:
        file.write(b"0" * 1000)
    entry = {"score": 2.0, "pose_ok": True, "error": None}
    document = {"images": [entry]}
    answer(database, job, "w", Answer(verdict, document, 2.0, 1.0), sink_names(settings))
    return key


def test_result_files_are_written_once_also_when_it_is_told_twice(
    settings: StationSettings, database: Database, queue: Queue
) -> None:
    keys = [finished(database, queue, settings, "good") for _ in range(3)]
    assert Courier(settings, database).deliver_due() == 3
    with database.write() as connection:  # killed before it was noted that they are told
        connection.execute(deliveries.update().values(done_at=None, next_at=0.0, attempts=0))
    assert settings.results is not None
    path = next(settings.results.glob("*.csv"))
    path.write_text(path.read_text() + "cut short")
    assert Courier(settings, database).deliver_due() == 3
    lines = path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:4]] == keys
    assert sum(line.startswith(tuple(keys)) for line in lines) == 3
    assert "'=cmd" in lines[1]


@contextmanager
def receiver(statuses: list[int]) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A webhook that answers one status after the other."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(statuses[min(len(got), len(statuses)) - 1])
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/verdicts", got
    finally:
        server.shutdown()
        server.server_close()


def make_due(database: Database) -> None:
    with database.write() as connection:
        connection.execute(deliveries.update().values(next_at=0.0))


def test_the_webhook_is_signed_and_tried_until_it_answers(
    settings: StationSettings, database: Database, queue: Queue
) -> None:
    with receiver([500, 302, 204]) as (address, got):
        secret = "a shared secret"
        settings = replace(settings, results=None, webhook=address, webhook_secret=secret)
        key = finished(database, queue, settings, "defective")
        courier = Courier(settings, database)
        for expected in (0, 0, 1, 0):
            assert courier.deliver_due() == expected
            make_due(database)
    assert len(got) == 3
    headers, body = got[2]
    wanted = hmac.new(secret.encode(), headers["x-splatpose-time"].encode() + b"." + body, "sha256")
    assert headers["x-splatpose-signature"] == f"sha256={wanted.hexdigest()}"
    assert headers["x-splatpose-delivery"] == key == json.loads(body)["key"]


def test_a_receiver_that_is_gone_delays_and_does_not_lose(
    settings: StationSettings, database: Database, queue: Queue
) -> None:
    settings = replace(settings, results=None, webhook="http://127.0.0.1:9/", webhook_secret="s")
    finished(database, queue, settings, "good")
    before = time.time()
    assert Courier(settings, database).deliver_due() == 0
    with database.read() as connection:
        row = connection.execute(select(deliveries)).one()
    assert row.done_at is None
    assert row.next_at > before + 1
    assert "cannot be reached" in row.failure


def test_mqtt_messages_are_acknowledged_by_the_broker(
    settings: StationSettings, database: Database, queue: Queue
) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra 'mqtt' is not installed here")
    import socket

    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def broker() -> None:
        """CONNACK to a connection, PUBACK to one message of quality 1."""
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"\x20\x02\x00\x00")
            data = connection.recv(1 << 20)
            start = 1 + next(i for i in range(1, 5) if data[i] < 128)
            topic = int.from_bytes(data[start : start + 2], "big")
            end = start + 2 + topic
            got.extend([data[start + 2 : end], data[end + 2 :]])
            connection.sendall(b"\x40\x02" + data[end : end + 2])
            connection.recv(1024)

    thread = threading.Thread(target=broker, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    settings = replace(settings, results=None, mqtt=f"mqtt://127.0.0.1:{port}/line/1")
    key = finished(database, queue, settings, "good")
    assert Courier(settings, database).deliver_due() == 1
    thread.join(5)
    listener.close()
    assert got[0] == b"line/1"
    assert json.loads(got[1])["key"] == key


def test_pictures_of_good_parts_go_first_and_the_history_stays(
    settings: StationSettings, database: Database, queue: Queue
) -> None:
    kinds = ("good", "defective", "good")
    keys = {verdict: [] for verdict in kinds}  # type: dict[str, list[str]]
    for verdict in kinds:
        keys[verdict].append(finished(database, queue, settings, verdict))
    used = Retention(settings, database).used_bytes()
    kept = Retention(replace(settings, keep_bytes=used // 2), database)
    assert kept.apply(time.time() + 1) >= 2
    for key in keys["good"]:
        found = history.inspection(database, key)
        assert found["verdict"] == "good"
        assert found["photographs"][0]["removed"]
        assert found["photographs"][0]["links"] == {}
        assert not queue.spool.path(key, 0).exists()


def test_old_pictures_go_by_age(
    settings: StationSettings, database: Database, queue: Queue
) -> None:
    key = finished(database, queue, settings, "defective")
    kept = Retention(replace(settings, keep_days=1.0), database)
    assert kept.apply(time.time()) == 0
    assert kept.apply(time.time() + 2 * 86_400) == 1
    assert not picture_path(settings.pictures, key, 0, "query").exists()
    actions = [each["action"] for each in history.audit_page(database, None)["entries"]]
    assert actions[0] == "pictures removed"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("workers", 0, "--workers 0"), ("workers", -1, "--workers"), ("threads", -1, "--threads"),
        ("max_megabytes", math.nan, "--max-megabytes nan"),
        ("max_megapixels", math.inf, "--max-megapixels inf"), ("settle", math.nan, "--settle"),
        ("time_limit", math.inf, "--time-limit"), ("port", 70_000, "--port 70000"),
        ("backend", "nope", "unknown backend 'nope'"), ("device", "gpu", "unknown device 'gpu'"),
        ("watch", ("mug=",), "names no folder"), ("watch", ("",), "names no folder"),
        ("folder", Path("mug"), "is a model folder"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_by_name(
    option: str, value: Any, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    from serve import ServeConfig, station_settings

    monkeypatch.chdir(tmp_path)
    config = ServeConfig((Path("mug"),), folder=tmp_path / "st")
    assert station_settings(config).workers >= 1
    with pytest.raises(InputError, match=message):
        station_settings(replace(config, **{option: value}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    from serve import ServeConfig, station_settings

    with pytest.raises(InputError, match="no GPU"):
        station_settings(ServeConfig((tmp_path / "mug",), folder=tmp_path / "st", device="cuda"))


def test_results_inside_the_watched_folder_are_refused(tmp_path: Path) -> None:
    from serve import ServeConfig, station_settings

    (tmp_path / "in").mkdir()
    config = ServeConfig((tmp_path / "mug",), folder=tmp_path / "st", watch=(str(tmp_path / "in"),))
    assert station_settings(config).watches[0].model == "mug"
    with pytest.raises(InputError, match="--results"):
        station_settings(replace(config, results=tmp_path / "in" / "out"))
    with pytest.raises(InputError, match="--watch"):
        station_settings(replace(config, watch=(str(tmp_path / "gone"),)))
    with pytest.raises(InputError, match="lies in"):
        refuse_inside(tmp_path / "in" / "x", tmp_path / "in", "--folder")


def test_work_that_fails_once_is_repeated(caplog: pytest.LogCaptureFixture) -> None:
    called, again = [], threading.Event()

    def work() -> None:
        called.append(1)
        if len(called) == 1:
            raise OSError("the disk was away")
        again.set()

    loop = Repeated("errand", 0.01, work)
    loop.start()
    assert again.wait(10)
    loop.stop()
    assert "errand: OSError: the disk was away" in caplog.text
