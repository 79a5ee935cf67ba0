"""train.py from a folder to a model folder: what it leaves, resumes and refuses."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from captures import write_mad
from small_training import ITERATIONS, point_cloud, small

from gaussian_renderer import LearningRates
from pipeline.model_folder import ModelFolder
from pipeline.presets import TRAINING
from scene import InputError, load_ply
from train import TrainConfig, train

ROOT = Path(__file__).parent.parent


def tree_hash(folder: Path) -> dict[str, str]:
    """Content of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball seen from 24 sides, in MAD's format."""
    return write_mad(tmp_path_factory.mktemp("data") / "01Ball", views=24)


def test_model_folder_is_complete_and_input_untouched(capture: Path, tmp_path: Path) -> None:
    before = tree_hash(capture)
    folder = ModelFolder(train(small(capture, tmp_path / "model")))
    assert tree_hash(capture) == before
    config = folder.load_config()
    assert config["settings"]["iterations"] == ITERATIONS
    assert config["settings"]["seed"] == 0
    assert len(config["views"]) == 18
    assert len(config["held_out"]) == 6
    assert config["held_out_quality"]["psnr"] > 12
    assert len(load_ply(folder.point_cloud_path(ITERATIONS))) == config["n_gaussians"] <= 400
    cameras = json.loads((folder.root / "cameras.json").read_text())
    assert len(cameras) == 18
    assert set(cameras[0]) >= {"id", "img_name", "width", "height", "position", "rotation", "fx"}
    assert folder.gallery_path.is_file()
    assert folder.calibration_path.is_file()
    assert not folder.checkpoint_path.exists()
    lines = [json.loads(line) for line in folder.metrics_path.read_text().splitlines()]
    assert lines[-1]["iteration"] == ITERATIONS
    assert set(lines[-1]) == {"iteration", "loss", "psnr", "n_gaussians", "seconds"}


def test_same_seed_same_bits_for_any_number_of_threads(capture: Path, tmp_path: Path) -> None:
    train(small(capture, tmp_path / "one"))
    train(small(capture, tmp_path / "two", threads=2))
    train(small(capture, tmp_path / "other", seed=1))
    assert point_cloud(tmp_path / "one") == point_cloud(tmp_path / "two")
    assert point_cloud(tmp_path / "one") != point_cloud(tmp_path / "other")


def test_killed_run_resumes_to_the_same_result(capture: Path, tmp_path: Path) -> None:
    train(small(capture, tmp_path / "undisturbed"))
    killed = tmp_path / "killed"
    command = [
        sys.executable, "train.py", "-s", str(capture), "-m", str(killed),
        "--iterations", str(ITERATIONS), "--checkpoint-every", "20",
        "--holdout-every", "4", "--max-gaussians", "400",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if not ModelFolder(killed).is_finished():  # on a fast machine the run may just have ended
        with pytest.raises(InputError, match="unfinished"):
            ModelFolder(killed).load_config()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "resumed at iteration" in done.stdout or "nothing to do" in done.stdout
    assert point_cloud(killed) == point_cloud(tmp_path / "undisturbed")
    numbers = [
        json.loads(line)["iteration"]
        for line in (killed / "metrics.jsonl").read_text().splitlines()
    ]
    assert numbers == sorted(set(numbers))


def test_run_killed_after_the_last_iteration_only_calibrates(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    config = small(capture, tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr("calibrate.build_gallery", die)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    folder = ModelFolder(tmp_path / "model")
    with pytest.raises(InputError, match=r"is not calibrated: run python calibrate.py --model"):
        folder.load_calibration(ITERATIONS)
    trained = folder.point_cloud_path(ITERATIONS).stat().st_mtime_ns
    train(config)
    assert folder.load_calibration(ITERATIONS).scores["residual"].scores
    assert folder.point_cloud_path(ITERATIONS).stat().st_mtime_ns == trained


def test_run_killed_before_its_config_goes_on_from_the_checkpoint(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    config = small(capture, tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr("train.write_config", die)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    folder = ModelFolder(tmp_path / "model")
    assert not folder.is_finished()
    trained = point_cloud(folder.root)
    folder.metrics_path.unlink()  # a lost log must not stop the run either
    train(config)
    assert folder.is_finished()
    assert point_cloud(folder.root) == trained


def test_finished_run_is_not_repeated_nor_overwritten(capture: Path, tmp_path: Path) -> None:
    model = train(small(capture, tmp_path / "model"))
    written = ModelFolder(model).config_path.stat().st_mtime_ns
    train(small(capture, model))
    assert ModelFolder(model).config_path.stat().st_mtime_ns == written
    with pytest.raises(InputError, match=r"other settings \(seed: 0, now 5\).*--overwrite"):
        train(small(capture, model, seed=5))
    before = point_cloud(model)
    train(small(capture, model, seed=5, overwrite=True))
    assert point_cloud(model) != before


def test_only_one_writer(capture: Path, tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path / "model")
    with folder.lock(), pytest.raises(InputError, match="another process is writing"):
        train(small(capture, folder.root))


def test_broken_checkpoint_is_named(capture: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    with open(model / "checkpoint.npz", "wb") as file:
        np.savez(file, iteration=np.array(3))
    whole = (model / "checkpoint.npz").read_bytes()
    for content in (b"half a file", whole[: len(whole) // 2], whole):
        (model / "checkpoint.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint.npz is damaged .*: delete it"):
            train(small(capture, model))


def test_a_place_that_cannot_be_a_model_folder_is_named(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InputError, match=r"cannot write into .*choose another folder"):
            train(small(capture, place))
    assert (tmp_path / "file").read_text() == "mine"


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    left = tmp_path / ".checkpoint.npz.123.tmp"
    left.write_text("half")
    other = tmp_path / "detections" / ".results.json.9.tmp"
    other.parent.mkdir()
    other.write_text("of a run that may be alive")
    with folder.lock():
        assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iterations": 0}, "--iterations must be at least 1"),
        ({"sh_degree": 4}, "--sh-degree must be 0, 1, 2 or 3"),
        ({"views_fraction": 0.0}, "--views-fraction must lie in"),
        ({"holdout_every": 1}, "--holdout-every must be 0 or at least 2"),
        ({"resolution": 4}, "--resolution must be at least 16"),
        ({"threads": 0}, "--threads"),
        ({"backend": "vulkan"}, "unknown backend 'vulkan'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"source": Path("nowhere/Gorilla")}, "nowhere"),
    ],
)
def test_wrong_settings_are_refused(
    capture: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        train(small(capture, tmp_path / "model", **changes))
    assert not (tmp_path / "model" / "config.json").exists()


def test_command_line_says_one_sentence_and_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "-s", str(tmp_path / "missing"), "-m", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_paper_preset_is_the_papers() -> None:
    paper = TRAINING["paper"]
    assert (paper.iterations, paper.sh_degree, paper.random_points) == (30_000, 0, 100_000)
    assert paper.rates == LearningRates(means=1.6e-4)
    assert (paper.last_position_rate, paper.rate_decay) == (1.6e-6, 1.0)
    assert paper.adam_betas == (0.9, 0.999)
    assert paper.ssim_weight == 0.2
    assert paper.growth == "paper"


def test_paper_preset_trains_without_held_out_views(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRAINING, "paper", replace(TRAINING["paper"], random_points=2_000))
    config = TrainConfig(source=capture, model=tmp_path / "m", preset="paper", iterations=12)
    folder = ModelFolder(train(config))
    assert folder.load_config()["held_out"] == []
    assert folder.load_calibration(12).scores == {}


def test_help_names_the_values_of_the_presets() -> None:
    """A number in a help text must not outlive the preset's."""
    text = (ROOT / "train.py").read_text()
    for name, preset in (("default ", "default"), ("paper: ", "paper")):
        assert f"{name}{TRAINING[preset].iterations:,}" in text
        assert f"{name}{TRAINING[preset].sh_degree}" in text
    assert f"default {TRAINING['default'].max_gaussians:,} (paper: none)" in text
    assert TRAINING["paper"].max_gaussians is None


def test_a_capture_that_lost_a_view_is_not_resumed(capture: Path, tmp_path: Path) -> None:
    """Views that were trained on would be held out."""
    source = shutil.copytree(capture, tmp_path / "ball")
    train(small(source, tmp_path / "m", iterations=5))
    content = json.loads((source / "transforms.json").read_text())
    content["frames"] = content["frames"][1:]
    (source / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="holds a run on other views"):
        train(small(source, tmp_path / "m", iterations=5))
