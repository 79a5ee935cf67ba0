"""Train views at wrong poses are named, left out, and put right by --refine-poses."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import captures
import pytest
import torch
from captures import camera_at, look_at, orbit, painted_ball
from small_training import small
from torch import Tensor

from calibrate import CalibrateConfig, calibrate
from pipeline.calibration import Calibration
from pipeline.model_folder import ModelFolder
from pose_estimation import align_poses, far_above_the_rest, rotation_error
from train import train

SIZE, VIEWS = 64, 32
WRONG = 9  # of the views; every fourth from the third on is held out


def painted(root: Path, wrong: Sequence[int] = ()) -> Path:
    """A painted ball in MAD's layout; some train views have the pose from the other side."""
    frames = []
    for i, pose in enumerate(orbit(VIEWS)):
        captures.save_image(root / f"train/good/{i}.png", painted_ball(pose, SIZE))
        written = look_at((-camera_at(pose).centre).tolist()) if i in wrong else pose
        frames.append(captures.frame(f"train/good/{i}.png", written))
    captures.write_transforms(root / "transforms.json", frames)
    return root


def trained(root: Path, model: Path, **more: object) -> ModelFolder:
    return ModelFolder(train(small(root, model, iterations=400, max_gaussians=1500, **more)))


def threshold(folder: ModelFolder) -> tuple[Calibration, float]:
    calibration = folder.load_calibration(400)
    return calibration, calibration.scores["residual"].threshold().value


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    root = tmp_path_factory.mktemp("clean")
    return trained(painted(root / "ball"), root / "model")


def test_a_view_at_a_wrong_pose_is_named_and_left_out(
    clean: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(painted(tmp_path / "ball", [WRONG]), tmp_path / "model")
    said = capsys.readouterr().out
    assert f"left out: train/good/{WRONG}: the model shows it" in said
    assert said.count("left out:") == 1
    calibration, value = threshold(folder)
    assert calibration.left_out == (f"train/good/{WRONG}",)
    assert value < 2 * threshold(clean)[1]
    again = calibrate(CalibrateConfig(folder.root, threads=1))  # and so it stays
    assert again == calibration


def test_a_held_out_view_at_a_wrong_pose_is_left_out_too(
    clean: ModelFolder, tmp_path: Path
) -> None:
    calibration, value = threshold(trained(painted(tmp_path / "ball", [10]), tmp_path / "model"))
    assert calibration.left_out == ("train/good/10",)
    assert value < 2 * threshold(clean)[1]


def test_nothing_is_left_out_of_a_clean_capture(clean: ModelFolder) -> None:
    assert threshold(clean)[0].left_out == ()
    assert "left_out" not in json.loads(clean.calibration_path.read_text())


def test_refining_poses_puts_it_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = painted(tmp_path / "ball", [WRONG])
    folder = trained(root, tmp_path / "model", refine_poses=True)
    said = capsys.readouterr().out
    assert f"put right: train/good/{WRONG}: its pose was" in said
    assert "left out" not in said
    found = json.loads(folder.train_poses_path.read_text())
    for i, pose in enumerate(orbit(VIEWS)):
        at = torch.tensor(found[f"train/good/{i}"], dtype=torch.float64)
        assert math.degrees(rotation_error(at, pose)) < 2.0  # one was 180


def test_only_residuals_far_above_their_own_kind_are_suspicious() -> None:
    usual = [1.0, 1.1, 0.9, 1.2, 0.8, 1.0]
    assert far_above_the_rest([*usual, 1.9]) == []
    assert far_above_the_rest([*usual, 4.0, 0.1]) == [6]
    unseen = [3.0, 3.3, 2.7, 3.1, 9.0, 2.9]
    assert far_above_the_rest([*usual, *unseen], [False] * 6 + [True] * 6) == [10]
    assert far_above_the_rest([1.0, 1.0, 1.0, 9.0]) == []


def test_the_frame_is_that_of_the_trusted_poses() -> None:
    given = torch.stack(orbit(8))
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = look_at((0.3, 1.0, 0.2))[:3, :3]
    turn[:3, 3] = torch.tensor([0.1, -0.2, 0.4])
    wrong = given.clone()
    wrong[2] = look_at((4.0, 0.0, 0.0))
    trusted = torch.ones(8, dtype=torch.bool)
    trusted[2] = False
    aligned: Tensor = align_poses(given @ turn, wrong, trusted)
    torch.testing.assert_close(aligned, given, rtol=0, atol=1e-9)
    assert not torch.allclose(align_poses(given @ turn, wrong), given, atol=1e-2)
