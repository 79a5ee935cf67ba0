"""What training learns after the last iteration: views kept out, thresholds, folds, given poses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from captures import write_mad
from PIL import Image
from small_training import point_cloud, small

from detect import DetectConfig, detect
from pipeline.model_folder import ModelFolder
from scene import InputError, read_capture
from scene.se3 import camera_centres
from train import TrainConfig, train


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball seen from 24 sides, in MAD's format."""
    return write_mad(tmp_path_factory.mktemp("data") / "01Ball", views=24)


@pytest.mark.parametrize(
    ("views", "every", "kept_out"),
    [(210, 10, 21), (100, 10, 10), (84, 8, 10), (42, 4, 10), (20, 4, 5), (19, 10, 2)],
)
def test_small_captures_keep_out_enough_to_calibrate(views: int, every: int, kept_out: int) -> None:
    config = TrainConfig(source=Path("x")).resolved().with_holdout(views)
    assert config.holdout_every == every
    places = [number % every == every // 2 for number in range(views)]
    assert sum(places) == kept_out
    assert TrainConfig(source=Path("x"), holdout_every=7).with_holdout(views).holdout_every == 7
    paper = TrainConfig(source=Path("x"), preset="paper").with_holdout(views)
    assert paper.holdout_every == 0


def test_folds_put_the_threshold_on_all_views_and_resume(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ModelFolder(train(small(capture, tmp_path / "model")))
    alone = json.loads(model.calibration_path.read_text())
    first = small(capture, tmp_path / "model" / "folds" / "0")
    train(replace(first, holdout_every=2, holdout_first=0))
    train(small(capture, tmp_path / "model", folds=2))
    pooled = json.loads(model.calibration_path.read_text())
    assert "folds/0 is already trained" in capsys.readouterr().out
    assert pooled["scores"]["models"] == 2
    assert len(alone["scores"]["scores"]) <= 6 < len(pooled["scores"]["scores"]) <= 24
    assert {k: v for k, v in pooled.items() if k != "scores"} == {
        k: v for k, v in alone.items() if k != "scores"
    }
    assert not (tmp_path / "model" / "folds").exists()
    stamp = model.calibration_path.stat().st_mtime_ns
    train(small(capture, tmp_path / "model", folds=2))
    assert model.calibration_path.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="can be split into 2 to 4 folds"):
        train(small(capture, tmp_path / "model", folds=5))


def test_without_views_found_again_there_is_no_threshold(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that shows nothing yet: scores at wrong poses must not set a threshold."""
    model = train(small(capture, tmp_path / "model", iterations=5))
    assert "0 were found again" in capsys.readouterr().out
    stored = json.loads(ModelFolder(model).calibration_path.read_text())
    assert stored["pose_check"] is None
    assert "scores" not in stored
    query = capture / "test/good/0.png"
    found = detect(DetectConfig(model, images=query, output=tmp_path / "o")).results
    assert found["summary"]["threshold"] is None
    assert found["images"][0]["is_anomalous"] is None
    said = capsys.readouterr().out
    assert "no verdicts" in said
    assert "images judged" not in said


def test_too_few_views_kept_out_are_said_to_give_no_threshold(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train(small(capture, tmp_path / "model", holdout_every=12))
    assert "warning: 2 views kept out are too few for a threshold" in capsys.readouterr().out
    assert not ModelFolder(model).calibration_path.exists()


def test_refined_poses_are_kept_and_stay_in_the_given_frame(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(capture, tmp_path / "model", iterations=40, refine_poses=True)
    folder = ModelFolder(train(config))
    found = json.loads(folder.train_poses_path.read_text())
    given = {view.name: view.camera.world_to_camera for view in read_capture(capture).views}
    assert set(found) == set(given)
    poses = torch.tensor([found[name] for name in given]).double()
    rotations = poses[:, :3, :3]
    assert torch.allclose(rotations @ rotations.transpose(1, 2), torch.eye(3).double(), atol=1e-6)
    true = torch.stack(list(given.values()))
    assert camera_centres(poses).mean(0).allclose(camera_centres(true).mean(0), atol=1e-6)
    assert not torch.equal(poses, true)
    assert "train poses, round 1" in capsys.readouterr().out
    before = point_cloud(folder.root, 40)
    folder.config_path.unlink()  # as if killed at the very end
    train(config)
    assert "train poses, round 1" not in capsys.readouterr().out
    assert point_cloud(folder.root, 40) == before
    with pytest.raises(InputError, match="refine_poses: True, now False"):
        train(small(capture, tmp_path / "model", iterations=40))


def test_queries_are_taken_through_the_lens_of_most_views(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(capture, tmp_path / "zoomed")
    content = json.loads((source / "transforms.json").read_text())
    for frame in content["frames"]:
        wide = frame["file_path"].endswith(("/0.png", "/1.png", "/3.png"))
        frame |= {"fl_x": 40.0 if wide else 44.0, "w": 32, "h": 32}
    (source / "transforms.json").write_text(json.dumps(content))
    folder = ModelFolder(train(small(source, tmp_path / "model", iterations=5, holdout_every=0)))
    assert folder.load_config()["camera"]["fx"] == 44.0
    assert "that of 21 of 24 views (focal length 44.0 pixels" in capsys.readouterr().out


def test_a_model_of_nothing_is_named(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shutil.copytree(capture, tmp_path / "empty")
    for path in (source / "train/good").glob("*.png"):
        Image.new("RGB", (32, 32), "white").save(path)
    with pytest.raises(InputError, match="silhouettes have no point in common: check"):
        train(small(source, tmp_path / "empty_model", iterations=5))
    unseen = "pipeline.optimise.largest_contribution"
    monkeypatch.setattr(unseen, lambda model, _: torch.zeros(len(model.gaussians)))
    with pytest.raises(InputError, match="Nothing of the object is left"):
        train(small(capture, tmp_path / "model", iterations=5))
