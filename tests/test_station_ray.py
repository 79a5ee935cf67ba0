"""Workers as replicas of a local Ray: the same verdicts, and a killed replica is replaced."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra 'station' is not installed here")
pytest.importorskip("ray.serve", reason="Ray Serve is not installed here: pip install 'ray[serve]'")

from captures import look_at, painted_ball, save_image

from benchmarks.station_server import Server, running


def replicas() -> list[int]:
    """Process ids of the replicas."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ServeReplica:splatpose-station" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_replicas_inspect_as_workers_do_and_are_replaced(
    ball_model: Path, postgres_server: str, database_url: str, tmp_path: Path
) -> None:
    if not database_url.startswith("postgresql"):
        pytest.skip("several machines share PostgreSQL")
    shutil.copytree(ball_model, tmp_path / "Ball")
    image = tmp_path / "a.png"
    save_image(image, painted_ball(look_at([3.9, 0.5, 0.6]), 64))
    with running(Server(tmp_path / "Ball", tmp_path / "alone")) as alone:
        wanted = alone.inspect(image).json
    arguments = ["--engine", "ray", "--database", database_url]
    with running(Server(tmp_path / "Ball", tmp_path / "station", arguments)) as server:
        found = server.inspect(image).json
        assert found["score"] == wanted["score"]
        assert found["verdict"] == wanted["verdict"]
        before = replicas()
        assert before
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        key = server.inspect(image, wait=0).json["key"]
        assert server.wait_until_idle(240)[0]["key"] == key
        end = time.monotonic() + 60
        while server.get("/api/inspections?verdict=open")["inspections"]:
            assert time.monotonic() < end
        assert set(replicas()).isdisjoint(before)
        assert server.get(f"/api/inspections/{key}")["score"] == wanted["score"]
