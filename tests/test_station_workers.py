"""What becomes of work whose worker hangs, dies, or finds the disk full."""

import io
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'station' is not installed here")

from PIL import Image
from sqlalchemy import select, update

from benchmarks.station_server import ROOT
from scene import InputError
from station import history, worker
from station.database import Database, migrate, open_database
from station.models import Models
from station.queue import Order, Queue, Upload, claim
from station.retention import Retention
from station.server import Station
from station.settings import StationSettings
from station.sinks import Courier
from station.spool import Spool
from station.statistics import drift_of, interval, intervals
from station.supervisor import Supervisor, _Slot
from station.tables import inspections, model_troubles
from station.worker import Worker

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100


@pytest.fixture
def settings(ball_model: Path, tmp_path: Path) -> StationSettings:
    return StationSettings({"Ball": ball_model}, tmp_path / "station",
                           f"sqlite:///{tmp_path / 'station.db'}", least_free=0,
                           time_limit=5.0, attempts=2)  # fmt: skip


@pytest.fixture
def database(settings: StationSettings) -> Database:
    found = open_database(settings.database)
    migrate(found)
    return found


@pytest.fixture
def key(settings: StationSettings, database: Database) -> str:
    """One accepted photograph, which is no image."""
    spool = Spool(settings.spool, settings.max_bytes, 0)
    spool.prepare()
    upload = Upload("a.png", io.BytesIO(PNG))
    found = Queue(database, spool, 10).accept(Order("Ball", None, "api"), [upload])
    assert found is not None
    return found


def slot_of(owner: str, code: str) -> _Slot:
    """A worker that does what `code` says."""
    process = subprocess.Popen([sys.executable, "-c", code], text=True)
    return _Slot(owner, process, time.monotonic())


def test_a_worker_that_takes_too_long_is_ended_and_its_work_goes_back(
    settings: StationSettings, database: Database, key: str
) -> None:
    claim(database, inspections, "slow", 60.0)
    slot = slot_of("slow", "import time; time.sleep(60)")
    supervisor = Supervisor(settings, database)
    supervisor._look_at(slot)
    assert slot.process is not None
    assert slot.process.poll() is None  # it still has time
    with database.write() as connection:
        connection.execute(update(inspections).values(started_at=time.time() - 6.0))
    supervisor._look_at(slot)
    assert slot.process.poll() is not None
    again = claim(database, inspections, "next", 60.0)
    assert again is not None
    assert (again.attempts, again.failure) == (2, "it took too long")


def test_the_work_of_a_dead_worker_goes_back_at_once(
    settings: StationSettings, database: Database, key: str
) -> None:
    claim(database, inspections, "dead", 3600.0)
    slot = slot_of("dead", "import os; os.abort()")
    assert slot.process is not None
    slot.process.wait()
    Supervisor(settings, database)._look_at(slot)
    again = claim(database, inspections, "next", 60.0)
    assert again is not None
    assert "its worker died (status -6)" in again.failure


def worker_of(settings: StationSettings, database: Database) -> Worker:
    return Worker(settings, database, "me", Models(settings), 0)


def test_a_photograph_that_kills_its_workers_is_an_error_in_the_end(
    settings: StationSettings, database: Database, key: str
) -> None:
    for _ in range(settings.attempts):
        claim(database, inspections, "dead", -1.0)
    assert worker_of(settings, database)._do_inspection()
    found = history.inspection(database, key)
    assert found["verdict"] == "error"
    assert "given up after 2 attempts" in found["error"]


def test_a_full_disk_keeps_the_photograph_in_the_queue(
    settings: StationSettings, database: Database, key: str, monkeypatch: Any
) -> None:
    def full(*_: Any) -> None:
        raise InputError("The disk is full, x was not written: free some space and run again.")

    monkeypatch.setattr(worker, "inspect_part", full)
    monkeypatch.setattr(worker, "_FULL", 0.0)
    mine = worker_of(settings, database)
    for _ in range(settings.attempts + 2):  # more often than a photograph may kill a worker
        assert mine._do_inspection()
    found = history.inspection(database, key)
    assert (found["state"], found["verdict"]) == ("queued", None)
    monkeypatch.undo()
    assert mine._do_inspection()
    assert history.inspection(database, key)["verdict"] == "error"  # of a file that is no image


def test_a_model_that_cannot_be_opened_is_named(
    database: Database, key: str, settings: StationSettings, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("station.models._PATIENCE", 0.0)
    gone = StationSettings({"Ball": tmp_path / "gone"}, settings.root, settings.database)
    assert worker_of(gone, database)._do_inspection()
    assert "cannot be opened" in history.inspection(database, key)["error"]


def test_a_broken_model_does_not_keep_the_others_waiting(
    database: Database, settings: StationSettings, ball_model: Path, tmp_path: Path,
    monkeypatch: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr("station.models._PATIENCE", 1.5)
    copy = tmp_path / "Copy"
    both = replace(settings, models={"Ball": ball_model, "Copy": copy})
    queue = Queue(database, Spool(both.spool, both.max_bytes, 0), 10)
    queue.spool.prepare()
    keys = [queue.accept(Order(name, None, "api"), [Upload("a.png", io.BytesIO(PNG))])
            for name in ("Copy", "Copy", "Ball")]  # fmt: skip
    mine = worker_of(both, database)
    mine.open_models(both.models)
    started = time.monotonic()
    for _ in range(3):
        assert mine._do_inspection()
    assert time.monotonic() - started < 1.5
    errors = [history.inspection(database, key or "")["error"] for key in keys]
    assert all("model Copy cannot be opened" in (error or "") for error in errors[:2])
    assert "cannot be opened" not in (errors[2] or "")
    station = Station(both, database, queue, Supervisor(both, database), Courier(both, database),
                      [], Retention(both, database))  # fmt: skip
    assert "the model Copy cannot be opened" in " ".join(station.health()["troubles"])
    shutil.copytree(ball_model, copy)  # another state of its files: tried at once
    mine.open_models(["Copy"])
    assert "Copy" not in " ".join(station.health()["troubles"])


def test_a_model_that_is_mended_is_found_without_an_inspection(
    database: Database, settings: StationSettings, monkeypatch: Any
) -> None:
    monkeypatch.setattr("station.models._PATIENCE", 0.0)
    monkeypatch.setattr("station.models._AGAIN", 0.0)
    opens = Models._open

    def damaged(*_: Any) -> None:
        raise InputError("point_cloud.ply is damaged")

    monkeypatch.setattr(Models, "_open", damaged)
    mine = worker_of(settings, database)
    mine.open_models(settings.models)
    assert mine.models.due() == ["Ball"]
    monkeypatch.setattr(Models, "_open", opens)
    mine.open_models(mine.models.due())
    assert mine.models.due() == []
    with database.read() as connection:
        assert connection.execute(select(model_troubles)).first() is None


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_an_image_that_needs_too_much_memory_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (6000, 6000)).save(path)
    code = (
        "import sys; from pathlib import Path; from scene import read_image, InputError\n"
        "from station.worker import limit_memory\n"
        "limit_memory(60 * 2**20)\n"
        "try:\n    read_image(Path(sys.argv[1]), (64, 64))\n"
        "except InputError as error:\n    print('refused', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, text=True,
                          capture_output=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused")
    assert "MemoryError" in done.stdout


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    assert interval(0, 10) == (0.0, pytest.approx(0.30850, abs=1e-5))
    assert interval(10, 10) == (pytest.approx(0.69150, abs=1e-5), 1.0)
    assert interval(1, 20) == (pytest.approx(0.00127, abs=1e-5), pytest.approx(0.24873, abs=1e-5))
    assert interval(0, 0) == (0.0, 1.0)
    table = intervals(20)
    assert (table["low"][1], table["high"][1]) == pytest.approx(interval(1, 20), abs=1e-5)


def test_drift_is_an_alarm_when_it_stays_and_not_for_one_part() -> None:
    usual = [1.0, 1.02, 0.98, 1.01, 0.99] * 8
    assert drift_of("exposure", usual, False).alarm == ""
    assert drift_of("exposure", [*usual, 1.5], False).alarm == ""
    moved = drift_of("exposure", [*usual, *[1.06] * 15], False)
    assert "above" in moved.alarm
    assert "below" in drift_of("exposure", [*usual, *[0.94] * 15], False).alarm
    assert drift_of("exposure", usual[:10], False).centre is None


def test_a_worker_without_its_server_ends_by_itself(
    settings: StationSettings, database: Database
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "station.worker", "orphan", "1000000"], cwd=ROOT, text=True,
        input=settings.dump(), capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ends after" in done.stderr
