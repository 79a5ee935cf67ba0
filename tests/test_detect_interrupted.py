"""detect.py when something ends it: what was inspected is kept, and the same command goes on."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import splatpose_cpu
from captures import ball_image, orbit, save_image, write_mad
from small_training import small

from calibrate import CalibrateConfig, calibrate
from detect import DetectConfig, detect
from gaussian_renderer.cpu import native
from pipeline.inspector import Inspection, Inspector
from pipeline.journal import NAME, files_state, open_journal
from scene import InputError
from train import train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a ball with five queries."""
    root = write_mad(tmp_path_factory.mktemp("data") / "01Ball", 24, labels={"good": 3, "Burrs": 2})
    return train(small(root, tmp_path_factory.mktemp("out") / "Ball"))


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of a run that nothing disturbs."""
    return detect(DetectConfig(model, output=tmp_path_factory.mktemp("o"))).results


def figures(results: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and entries without the seconds."""
    images = [image | {"seconds": None} for image in results["images"]]
    return results["summary"] | {"seconds": None}, images


def dying(patch: pytest.MonkeyPatch, after: int, error: type[BaseException]) -> list[Path]:
    """Makes inspection fail after so many images; the list of those that are inspected."""
    right, seen = Inspector.inspect, []

    def inspect(self: Inspector, paths: Sequence[Path]) -> list[Inspection]:
        if len(seen) == after:
            raise error("stop")
        seen.extend(paths)
        return right(self, paths)

    patch.setattr(Inspector, "inspect", inspect)
    return seen


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, RuntimeError])
def test_whatever_ends_a_run_the_same_command_goes_on(
    model: Path, undisturbed: dict[str, Any], tmp_path: Path, error: type[BaseException]
) -> None:
    config = DetectConfig(model, output=tmp_path / "o")
    with pytest.MonkeyPatch.context() as patch:
        dying(patch, 3, error)
        with pytest.raises(error) as caught:
            detect(config)
    assert "the same command goes on" in caught.value.__notes__[0]
    partial = json.loads((tmp_path / "o/results_until_interrupted.json").read_text())
    assert partial["images"] == [
        image | {"seconds": found["seconds"]}
        for image, found in zip(undisturbed["images"], partial["images"], strict=False)
    ]
    assert (tmp_path / "o/report.html").read_text().count("<article ") == 3
    with pytest.MonkeyPatch.context() as patch:
        seen = dying(patch, 99, error)
        again = detect(config).results
    assert len(seen) == 2
    assert figures(again) == figures(undisturbed)
    left = {path.name for path in (tmp_path / "o").iterdir()} - {".lock"}
    assert left == {"results.json", "results.csv", "report.html", "maps", "overlays"}
    with pytest.MonkeyPatch.context() as patch:
        seen = dying(patch, 99, error)
        detect(config)
    assert len(seen) == 5  # a complete run is made anew


def test_a_torn_or_damaged_line_costs_its_image_a_second_inspection(
    model: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    config = DetectConfig(model, output=tmp_path / "o")
    with pytest.MonkeyPatch.context() as patch:
        dying(patch, 4, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            detect(config)
    lines = (tmp_path / "o" / NAME).read_bytes().splitlines(keepends=True)
    lines[2] = b"{half\n"
    (tmp_path / "o" / NAME).write_bytes(b"".join(lines)[:-9])
    (tmp_path / "o/maps/good/0.tiff").unlink()
    with pytest.MonkeyPatch.context() as patch:
        seen = dying(patch, 99, KeyboardInterrupt)
        again = detect(config).results
    assert len(seen) == 4  # all but the third
    assert figures(again) == figures(undisturbed)


def test_a_damaged_map_or_first_line_costs_inspections_and_not_the_run(
    model: Path, undisturbed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DetectConfig(model, output=tmp_path / "o")
    for damaged, left in (("maps/good/0.tiff", 3), (NAME, 5)):
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, 3, KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt):
                detect(config)
        path = tmp_path / "o" / damaged
        path.write_bytes(b"garbage\n" + path.read_bytes().partition(b"\n")[2])
        with pytest.MonkeyPatch.context() as patch:
            seen = dying(patch, 99, KeyboardInterrupt)
            assert figures(detect(config).results) == figures(undisturbed)
        assert len(seen) == left
    assert "is damaged: the run is begun anew" in capsys.readouterr().out


def test_a_run_goes_on_only_with_its_own_model_images_and_settings(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    photos = tmp_path / "photos"
    for number, pose in enumerate(orbit(9)[:3]):
        save_image(photos / f"{number}.png", ball_image(pose))
    config = DetectConfig(copy, images=photos, output=tmp_path / "o")

    def interrupt() -> None:
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, 2, KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt):
                detect(config)

    interrupt()
    for other in ({"false_alarm_rate": 0.1}, {"images": photos / "0.png"}, {"features": "lab"}):
        with pytest.raises(InputError, match=r"unfinished run with other settings .*anew"):
            detect(DetectConfig(**(vars(config) | other)))
    assert (tmp_path / "o" / NAME).read_bytes().count(b"\n") == 3
    save_image(photos / "0.png", ball_image(orbit(9)[5]))  # another image of the same name
    save_image(photos / "new.png", ball_image(orbit(9)[6]))
    with pytest.MonkeyPatch.context() as patch:
        seen = dying(patch, 99, KeyboardInterrupt)
        found = detect(config).results
    assert [path.name for path in seen] == ["0.png", "2.png", "new.png"]
    assert [image["name"] for image in found["images"]] == ["0", "1", "2", "new"]
    interrupt()
    calibrate(CalibrateConfig(copy, features="rgb"))
    with pytest.MonkeyPatch.context() as patch:
        seen = dying(patch, 99, KeyboardInterrupt)
        detect(config)
    assert len(seen) == 4
    assert "the model has changed" in capsys.readouterr().out


def test_a_run_without_a_folder_of_its_own_is_resumed_by_name(
    model: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    with pytest.MonkeyPatch.context() as patch:
        dying(patch, 3, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            detect(DetectConfig(copy))
    (folder,) = (copy / "detections").iterdir()
    assert f"--resume {folder} goes on" in caught.value.__notes__[0]
    done = detect(DetectConfig(copy, resume=folder))
    assert done.folder == folder
    assert figures(done.results) == figures(undisturbed)
    with pytest.raises(InputError, match="holds no interrupted run"):
        detect(DetectConfig(copy, resume=folder))
    with pytest.raises(InputError, match="leave -o out"):
        detect(DetectConfig(copy, resume=folder, output=tmp_path))


def started(
    model: Path, output: Path, before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """detect.py as a process."""
    command = [sys.executable, "detect.py", "--model", str(model), "-o", str(output)]
    return subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=before,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_results_and_one_sentence(
    model: Path, undisturbed: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    process = started(model, tmp_path / "o")
    journal = tmp_path / "o" / NAME
    while process.poll() is None:
        if journal.is_file() and journal.read_bytes().count(b"\n") > 1:
            process.send_signal(number)
            break
    _, said = process.communicate()
    if process.returncode != 0:  # on a fast machine the run may just have ended
        assert process.returncode == 128 + number
        assert said.splitlines()[-1].startswith("interrupted: ")
        assert "Traceback" not in said
        partial = json.loads((tmp_path / "o/results_until_interrupted.json").read_text())
        assert 1 <= len(partial["images"]) <= 5
    assert figures(detect(DetectConfig(model, output=tmp_path / "o")).results) == figures(
        undisturbed
    )


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_is_one_sentence_and_keeps_what_was_done(
    model: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """No file may grow beyond 4,500 bytes: maps have 4,242, overlays and the journal have more."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_500, resource.RLIM_INFINITY))

    process = started(model, tmp_path / "o", limit)
    _, said = process.communicate()
    assert process.returncode == 2
    assert "Traceback" not in said
    assert "error: The disk is full" in said.splitlines()[-1]
    assert "the same command goes on" in said.splitlines()[-1]
    assert figures(detect(DetectConfig(model, output=tmp_path / "o")).results) == figures(
        undisturbed
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_of_any_bytes_costs_nothing(model: Path, tmp_path: Path) -> None:
    image = tmp_path / "0.png"
    save_image(image, ball_image(orbit(9)[3]))
    photos = tmp_path / "photos"
    photos.mkdir()
    names = [
        b"\xff\xfe.png",
        b"new\nline.png",
        b"n" * 251 + b".png",
        "日本".encode() * 41 + b".png",
    ]
    for name in (*names, b"plain.png", b"tab\t=1.png"):
        shutil.copy(image, os.fsencode(photos) + b"/" + name)
    done = detect(DetectConfig(model, images=photos, output=tmp_path / "o"))
    assert done.failures == []
    stored = json.loads((tmp_path / "o/results.json").read_bytes().decode("utf-8"))
    assert len({entry["map"] for entry in stored["images"]}) == 6
    by_name = {entry["name"]: entry for entry in stored["images"]}
    assert by_name["plain"]["map"] == "maps/plain.tiff"
    assert {"\\udcff\\udcfe", "new\\nline", "n" * 251} < set(by_name)
    assert len({entry["score"] for entry in stored["images"]}) == 1
    assert len((tmp_path / "o/results.csv").read_bytes().decode().splitlines()) == 7
    assert (tmp_path / "o/report.html").read_bytes().decode().count("<article ") == 6


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of Unix")
def test_a_file_system_without_locks_and_fsync_is_one_sentence(
    model: Path,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    found = detect(DetectConfig(model, output=tmp_path / "o")).results
    assert figures(found) == figures(undisturbed)
    assert capsys.readouterr().out.count("cannot be locked there") == 1


def test_a_fault_of_the_program_is_raised_once_and_not_of_every_image(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splatpose_cpu, "INTERFACE", 0)
    native.kernel.cache_clear()
    try:
        with pytest.raises(InputError, match="CPU kernel is from another version"):
            detect(DetectConfig(model, output=tmp_path / "o"))
    finally:
        native.kernel.cache_clear()
    assert not (tmp_path / "o").exists()


def test_a_run_does_not_go_on_with_other_masks_or_without_them(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "0.png").write_bytes(b"one")

    def settings() -> dict[str, str]:
        return {"images": "x", "ignore_masks": files_state(masks)}

    with open_journal(tmp_path / "run", "model", settings()):
        pass
    with open_journal(tmp_path / "run", "model", settings()):
        pass
    for other in ({"images": "x"}, {**settings(), "masks": "more"}):
        with (
            pytest.raises(InputError, match="masks"),
            open_journal(tmp_path / "run", "model", other),
        ):
            pass
    (masks / "0.png").write_bytes(b"another")
    with (
        pytest.raises(InputError, match="ignore_masks"),
        open_journal(tmp_path / "run", "model", settings()),
    ):
        pass
