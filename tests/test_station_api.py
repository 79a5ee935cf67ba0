"""The station's HTTP interface, with a server and a worker in processes of their own."""

import csv
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra 'station' is not installed here")
pytest.importorskip("uvicorn", reason="the extra 'station' is not installed here")
pytest.importorskip("sqlalchemy", reason="the extra 'station' is not installed here")
pytest.importorskip("python_multipart", reason="the extra 'station' is not installed here")

import numpy as np
from captures import look_at, painted_ball, save_image
from PIL import Image

from benchmarks.station_server import Server, running
from detect import DetectConfig, detect

SPOT = (1.0, 0.0, 0.0)
PLACES = {"good_0": [3.9, 0.5, 0.6], "good_1": [-2.0, 3.3, 0.4], "spot": [3.9, 0.2, 0.4]}
SAME = ("score", "tail_probability", "is_anomalous", "world_to_camera", "pose_ok", "pose_loss",
        "pose_ambiguous", "regions", "note")  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good balls and one with a spot."""
    root, found = tmp_path_factory.mktemp("images"), {}
    for name, place in PLACES.items():
        spot = SPOT if name == "spot" else None
        found[name] = root / f"{name}.png"
        save_image(found[name], painted_ball(look_at(place), 64, spot, 0.6))
    return found


@pytest.fixture(scope="module")
def server(
    ball_model: Path, shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("station")
    shutil.copytree(ball_model, root / "Ball")
    arguments = ["--results", str(root / "results"), "--max-queue", "6",
                 "--database", shared_database_url, "--watch", str(root / "incoming"),
                 "--settle", "0.5"]  # fmt: skip
    (root / "incoming").mkdir()
    with running(Server(root / "Ball", root / "station", arguments)) as found:
        yield found


def test_verdicts_are_those_of_detect_to_the_bit(
    server: Server, images: dict[str, Path], tmp_path: Path
) -> None:
    run = detect(DetectConfig(server.model, next(iter(images.values())).parent,
                              output=tmp_path / "found"))  # fmt: skip
    for entry in run.results["images"]:
        reply = server.inspect(images[entry["name"]], serial=entry["name"])
        assert reply.status == 200
        found = reply.json["photographs"][0]
        assert {name: found[name] for name in SAME} == {
            name: json.loads(json.dumps(entry[name])) for name in SAME
        }
        assert reply.json["threshold"] == run.results["summary"]["threshold"]
        assert reply.json["verdict"] == ("defective" if entry["is_anomalous"] else "good")
        values = server.request("GET", found["links"]["values"])
        assert values.headers["content-type"] == "image/tiff"
        assert values.body == (run.folder / entry["map"]).read_bytes()


def test_several_photographs_of_one_part_are_inspected_together_as_by_detect(
    server: Server, images: dict[str, Path], tmp_path: Path
) -> None:
    parts = tmp_path / "parts" / "A"
    for number, place in enumerate(([4.0, 0.4, 0.4], [4.0, -0.6, 0.5], [3.8, 0.5, -0.9])):
        save_image(parts / f"{number}.png", painted_ball(look_at(place), 64, SPOT, 0.6))
    run = detect(DetectConfig(server.model, parts.parent, output=tmp_path / "found",
                              group_by="folder"))  # fmt: skip
    reply = server.inspect(*sorted(parts.iterdir()))
    wanted = run.results["objects"][0]
    assert reply.json["object"]["score"] == wanted["score"]
    assert reply.json["object"]["is_anomalous"] is wanted["is_anomalous"] is True
    assert reply.json["object"]["regions"][0]["position"] == wanted["regions"][0]["position"]
    assert reply.json["verdict"] == "defective"
    assert len(reply.json["photographs"]) == 3


def test_pictures_are_jpeg_under_fixed_names_and_nothing_else_is_served(
    server: Server, images: dict[str, Path]
) -> None:
    found = server.inspect(images["spot"]).json
    links = found["photographs"][0]["links"]
    for name in ("thumbnail", "query", "rendering", "map", "overlay"):
        reply = server.request("GET", links[name])
        assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
        assert reply.body.startswith(b"\xff\xd8")
    assert server.request("GET", links["photograph"]).body == images["spot"].read_bytes()
    base = f"/api/inspections/{found['key']}/photographs"
    for path in (f"{base}/0/..%2f..%2fstation.db", f"{base}/7/query", f"{base}/-1/query",
                 "/api/inspections/..%2f..%2fetc/photographs/0/query", "/static/../settings.py",
                 "/static/..%2fsettings.py", f"{base}/0/../../../x"):  # fmt: skip
        assert server.request("GET", path).status in (404, 405, 422), path


def test_history_is_listed_by_filters_and_pages(server: Server, images: dict[str, Path]) -> None:
    server.inspect(images["good_0"], serial="S-17")
    server.inspect(images["spot"], serial="S-18")
    assert [e["serial"] for e in server.get("/api/inspections?serial=S-1&verdict=defective")[
        "inspections"]] == ["S-18"]  # fmt: skip
    first = server.get("/api/inspections?limit=1")
    second = server.get(f"/api/inspections?limit=1&before={first['next']}")
    assert first["inspections"][0]["serial"] == "S-18"
    assert second["inspections"][0]["serial"] == "S-17"
    assert server.request("GET", "/api/inspections?limit=100000").status == 422


def test_a_client_that_does_not_wait_gets_202_and_the_verdict_later(
    server: Server, images: dict[str, Path]
) -> None:
    reply = server.inspect(images["good_0"], wait=0)
    assert reply.status == 202
    assert reply.headers["location"] == f"/api/inspections/{reply.json['key']}"
    stream = server.request("GET", f"{reply.headers['location']}/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = stream.body.decode().strip().split("\n\n")
    assert events[-1].startswith("event: done\n")
    last = json.loads(events[-1].split("data: ")[1])
    assert last["verdict"] == "good"


def test_a_full_queue_answers_429_and_says_when_to_come_back(
    server: Server, images: dict[str, Path]
) -> None:
    replies = [server.inspect(images["good_0"], wait=0) for _ in range(12)]
    statuses = [reply.status for reply in replies]
    assert set(statuses) == {202, 429}
    refused = replies[statuses.index(429)]
    assert refused.headers["retry-after"] == "2"
    assert "queue is full" in refused.json["error"]
    server.wait_until_idle()
    text = server.request("GET", "/metrics").body.decode()
    assert 'splatpose_drift_alarm{model="Ball",quantity="exposure"} 0' in text
    assert f'splatpose_requests_refused_total{{status="429"}} {statuses.count(429)}' in text


def animated() -> bytes:
    from io import BytesIO

    frames = [Image.fromarray(np.full((64, 64, 3), value, np.uint8)) for value in (0, 255)]
    file = BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 30,000 x 30,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 422, "is empty"),
        (b"#!/bin/sh\nrm -rf /", 415, "no image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "no image file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "no image file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, 200, "not an image"),
        (animated(), 200, "several images"),
        (bomb(), 200, "pixels"),
    ],
    ids=["empty", "script", "postscript", "svg", "corrupt", "animated", "huge"],
)
def test_files_that_cannot_be_inspected_get_a_clear_answer(
    server: Server, content: bytes, status: int, message: str
) -> None:
    name = "../../etc/pass\"wd'<b>.png"
    reply = server.inspect((name, content))
    assert reply.status == status
    if status == 200:
        entry = reply.json["photographs"][0]
        assert reply.json["verdict"] == "error"
        assert entry["score"] is None
        assert message in entry["error"]
        assert name in entry["error"]
        assert str(server.folder) not in reply.body.decode()
    else:
        assert message in reply.json["error"]


def test_names_of_any_kind_are_kept_as_text_and_reach_no_file(
    server: Server, images: dict[str, Path]
) -> None:
    content = images["good_0"].read_bytes()
    for name in ("../../../x.png", "a'; DROP TABLE audit;--.png", "\u202egnp.png", "x" * 400):
        reply = server.inspect((name, content), serial=name)
        assert reply.status == 200, reply.body
        assert reply.json["verdict"] == "good"
        assert reply.json["photographs"][0]["name"].startswith(name[:3])
    names = {path.name for path in server.folder.rglob("*")}
    assert not any("x.png" in name or "DROP" in name for name in names)


def test_forms_that_are_none_are_named(server: Server, images: dict[str, Path]) -> None:
    assert server.request("POST", "/api/inspect", b"{}", {"content-type": "application/json"}
                          ).status == 415  # fmt: skip
    assert server.inspect(wait=0, serial="A").status == 422
    assert server.inspect(images["good_0"], wait=0, model="other").status == 422
    many = [images["good_0"]] * 17
    assert server.inspect(*many, wait=0).status == 413
    bad = server.request("POST", "/api/inspect", b"xx", {"content-type": "multipart/form-data"})
    assert bad.status == 400


def test_results_stand_in_files_once_each(server: Server, images: dict[str, Path]) -> None:
    found = server.inspect(images["spot"], serial="=1+1").json
    server.wait_until_idle()
    root, end = server.folder.parent / "results", time.monotonic() + 20
    path = next(iter(root.glob("*.csv")))
    keys: list[str] = []
    while time.monotonic() < end and found["key"] not in keys:
        time.sleep(0.2)
        rows = list(csv.DictReader(path.read_text().splitlines()))
        keys = [row["key"] for row in rows]
    assert len(keys) == len(set(keys))
    row = rows[keys.index(found["key"])]
    assert (row["serial"], row["verdict"]) == ("'=1+1", "defective")
    assert float(row["score"]) == found["score"]
    document = json.loads(next(root.glob(f"*/{found['key']}.json")).read_text())
    assert document["photographs"][0]["regions"] == found["photographs"][0]["regions"]


def test_a_chosen_threshold_counts_from_the_next_inspection_on_and_can_be_undone(
    server: Server, images: dict[str, Path]
) -> None:
    before = server.inspect(images["spot"]).json
    reply = server.post("/api/models/Ball/threshold", value=before["score"] * 2, who="Ann")
    assert reply.status == 201
    after = server.inspect(images["spot"]).json
    assert (before["verdict"], after["verdict"]) == ("defective", "good")
    assert after["threshold"] == before["score"] * 2
    assert after["threshold_version"] == reply.json["version"]
    undone = server.post("/api/models/Ball/undo", version=before["threshold_version"], who="Ann")
    assert server.task(undone)["ok"]
    again = server.inspect(images["spot"]).json
    assert (again["verdict"], again["threshold"]) == ("defective", before["threshold"])
    kinds = [each["kind"] for each in server.get("/api/models/Ball/versions")["versions"]]
    assert kinds[:2] == ["restored", "chosen"]
    assert server.post("/api/models/Ball/threshold", value=-1, who="Ann").status == 422
    assert server.post("/api/models/Other/threshold", value=1, who="Ann").status == 404


def test_recalibration_from_confirmed_parts_moves_the_threshold_for_detect_too(
    server: Server, tmp_path: Path
) -> None:
    for number in range(6):
        path = tmp_path / f"{number}.png"
        place = [3.0 - number, 2.6, 0.4 * number]
        save_image(path, painted_ball(look_at(place), 64))
        found = server.inspect(path).json
        said = server.post(f"/api/inspections/{found['key']}/reviews", answer="good", who="Ann")
        assert said.status == 201
    before = server.inspect(path).json
    outcome = server.task(server.post("/api/models/Ball/recalibrate", who="Ann"))
    assert outcome["ok"], outcome
    after = server.inspect(path).json
    assert after["threshold"] != before["threshold"]
    assert after["score"] == before["score"]
    version = server.get("/api/models/Ball/versions")["versions"][0]
    assert version["kind"] == "recalibrated"
    assert version["details"]["photographs"] >= 6
    run = detect(DetectConfig(server.model, path, output=tmp_path / "found"))
    assert run.results["summary"]["threshold"] == after["threshold"]
    assert "photographs of good parts" in run.results["settings"]["notes"][-1]
    undone = server.post("/api/models/Ball/undo", version=before["threshold_version"], who="Ann")
    assert server.task(undone)["ok"]
    assert server.inspect(path).json["threshold"] == before["threshold"]


def test_a_painted_zone_is_honoured_and_can_be_erased(
    server: Server, images: dict[str, Path]
) -> None:
    found = server.inspect(images["spot"]).json
    x, y, width, height = found["photographs"][0]["regions"][0]["bbox"]
    runs = [[row * 64 + x - 4, width + 8] for row in range(y - 4, y + height + 4)]
    zone = {"name": "spot", "kind": "ignore", "key": found["key"], "number": 0, "runs": runs}
    outcome = server.task(server.post("/api/models/Ball/zones", who="Ann", **zone))
    assert outcome["ok"], outcome
    assert server.get("/api/models/Ball/zones")["zones"][0]["name"] == "spot"
    assert server.inspect(images["spot"]).json["verdict"] == "good"
    beside = zone | {"runs": [[0, 5]], "name": "nothing"}
    nothing = server.task(server.post("/api/models/Ball/zones", who="Ann", **beside))
    assert nothing == {"ok": False, "message": "nothing of the object was painted: paint on the "
                       "object"}  # fmt: skip
    outcome = server.task(server.post("/api/models/Ball/zones/erase", who="Ann", name="spot"))
    assert outcome["ok"]
    assert server.inspect(images["spot"]).json["score"] == found["score"]


def test_the_audit_log_tells_who_did_what(server: Server, images: dict[str, Path]) -> None:
    found = server.inspect(images["good_0"]).json
    server.post(f"/api/inspections/{found['key']}/reviews", answer="unsure", who="Bob")
    entries = server.get("/api/audit")["entries"]
    mine = [(e["who"], e["action"]) for e in entries if e["subject"] == found["key"]][::-1]
    assert mine == [("api", "accepted"), ("station", "inspected"), ("Bob", "reviewed")]
    assert server.post(f"/api/inspections/{found['key']}/reviews", answer="fine", who="B"
                       ).status == 422  # fmt: skip
    assert server.post(f"/api/inspections/{'0' * 32}/reviews", answer="good", who="B"
                       ).status == 404  # fmt: skip


def test_nothing_is_lost_over_an_ordinary_restart(server: Server, images: dict[str, Path]) -> None:
    keys = [server.inspect(images["good_0"], wait=0).json["key"] for _ in range(4)]
    assert server.stop() in (0, -15, 143)
    server.start()
    found = {each["key"]: each for each in server.wait_until_idle()}
    assert all(found[key]["verdict"] == "good" for key in keys)


def test_a_watched_image_is_inspected_once_also_over_a_restart(
    server: Server, images: dict[str, Path]
) -> None:
    incoming = server.folder.parent / "incoming"
    (incoming / "part 9").mkdir()
    shutil.copy(images["good_0"], incoming / "W-1.png")
    shutil.copy(images["spot"], incoming / "part 9" / "a.png")

    def found() -> list[tuple[str, str]]:
        listed = [e for e in server.all_inspections() if e["source"] == "watch"]
        return sorted((e["serial"], e["verdict"]) for e in listed)

    wanted, end = [("W-1", "good"), ("part 9", "defective")], time.monotonic() + 60
    while found() != wanted:
        assert time.monotonic() < end, found()
        time.sleep(0.3)
    server.kill()
    server.start()
    time.sleep(3.0)
    assert found() == wanted
    assert sorted(path.name for path in incoming.rglob("*.*")) == ["W-1.png", "a.png"]
