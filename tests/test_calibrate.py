"""calibrate.py: held-out views, thresholds, folds, photographs of good parts, input poses."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from captures import ball_image, orbit, save_image, write_mad
from efficientnet_pytorch import EfficientNet
from PIL import Image, ImageDraw
from small_training import ITERATIONS, point_cloud, small
from torch import Tensor

from anomaly import FEATURES
from anomaly.features import RgbFeatures
from calibrate import CalibrateConfig, calibrate
from detect import DetectConfig, detect
from pipeline.calibration import CalibrationViews
from pipeline.model_folder import ModelFolder
from scene import Camera, InputError, read_capture
from scene.se3 import camera_centres
from train import TrainConfig, optimise, train


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball seen from 24 sides, in MAD's format."""
    return write_mad(tmp_path_factory.mktemp("data") / "01Ball", views=24)


@pytest.mark.parametrize(
    ("views", "every", "held_out"),
    [(210, 10, 21), (100, 10, 10), (84, 8, 10), (42, 4, 10), (20, 4, 5), (19, 10, 2)],
)
def test_small_captures_keep_out_enough_to_calibrate(views: int, every: int, held_out: int) -> None:
    config = TrainConfig(source=Path("x")).resolved().with_holdout(views)
    assert config.holdout_every == every
    places = [number % every == every // 2 for number in range(views)]
    assert sum(places) == held_out
    assert TrainConfig(source=Path("x"), holdout_every=7).with_holdout(views).holdout_every == 7
    paper = TrainConfig(source=Path("x"), preset="paper").with_holdout(views)
    assert paper.holdout_every == 0


def test_folds_put_the_threshold_on_all_views_and_resume(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ModelFolder(train(small(capture, tmp_path / "model")))
    alone = folder.load_calibration(ITERATIONS)
    interrupted = CalibrateConfig(folder.root, folds=2)
    with pytest.MonkeyPatch.context() as patch:
        real, calls = optimise, []

        def second_dies(*inputs: Any) -> Any:
            calls.append(inputs)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(*inputs)

        patch.setattr("train.optimise", second_dies)
        with pytest.raises(KeyboardInterrupt):
            calibrate(interrupted)
        (first,) = (folder.root / "folds").glob("0_of_2_*")
        assert ModelFolder(first).load_calibration(ITERATIONS).scores
        calibrate(interrupted)
        assert len(calls) == 3  # the first fold was not trained again
    pooled = folder.load_calibration(ITERATIONS)
    assert pooled.scores["residual"].models == 2
    assert len(alone.scores["residual"].scores) <= 6
    assert 6 < len(pooled.scores["residual"].scores) <= 24
    assert replace(pooled, scores=alone.scores, pooled={}) == alone
    assert not (folder.root / "folds").exists()
    stamp = folder.calibration_path.stat().st_mtime_ns
    train(small(capture, tmp_path / "model", folds=2))
    assert folder.calibration_path.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="can be split into 2 to 4 folds"):
        train(small(capture, tmp_path / "model", folds=5))


def photographs(folder: Path) -> Path:
    """Good parts between the train views, one with a hole, one picture of nothing."""
    for number, pose in enumerate(orbit(17)[1:9]):
        save_image(folder / f"good_{number}.png", ball_image(pose))
    holed = ball_image(orbit(17)[10])
    ImageDraw.Draw(holed).rectangle((14, 14, 16, 16), fill=(0, 0, 0))
    save_image(folder / "holed.png", holed)
    save_image(folder / "empty.png", Image.new("RGB", (32, 32), "white"))
    (folder / "broken.png").write_bytes(b"half a file")
    return folder


def test_photographs_of_good_parts_move_the_threshold(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ModelFolder(train(small(capture, tmp_path / "model")))
    before = folder.load_calibration(ITERATIONS).scores["residual"]
    good = photographs(tmp_path / "station")
    contents = {path: path.read_bytes() for path in good.iterdir()}
    calibrate(CalibrateConfig(folder.root, good=good))
    after = folder.load_calibration(ITERATIONS).scores["residual"]
    assert after.photographs == 8
    assert len(after.scores) == len(before.scores) + 8
    said = capsys.readouterr().out
    assert re.search(r"left out: .*holed.png: it looks defective", said)
    assert re.search(r"left out: .*empty.png: .*single colour", said)
    assert re.search(r"left out: .*broken.png: .*not an image", said)
    assert f"{len(before.scores)} held-out views and 8 photographs of good parts" in said
    assert {path: path.read_bytes() for path in good.iterdir()} == contents
    found = detect(DetectConfig(folder.root, output=tmp_path / "o")).results["summary"]
    assert "and 8 photographs" in found["threshold_message"]
    other = detect(DetectConfig(folder.root, output=tmp_path / "lab", features="lab")).results
    assert "and 8 photographs" in other["summary"]["threshold_message"]


def test_defective_photographs_do_not_set_the_threshold(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Called defective by their folder, or raising the threshold out of all proportion."""
    folder = ModelFolder(train(small(capture, tmp_path / "model")))
    calibrate(CalibrateConfig(folder.root, good=capture / "test"))
    stands = folder.load_calibration(ITERATIONS)
    assert stands.good
    said = capsys.readouterr().out
    assert re.search(r"left out: .*Burrs.*: its folder says that it is defective", said)
    assert "threshold for 1 % false alarms" in said
    unnamed = tmp_path / "unnamed"
    for number, pose in enumerate(orbit(17)[1:9]):
        holed = ball_image(pose)
        ImageDraw.Draw(holed).rectangle((14, 14, 17, 17), fill=(0, 0, 0))
        save_image(unnamed / f"{number}.png", holed)
    with pytest.raises(InputError, match=r"would rise.*the earlier photographs still count"):
        calibrate(CalibrateConfig(folder.root, good=unnamed))
    assert folder.load_calibration(ITERATIONS) == stands
    stamp = folder.calibration_path.stat().st_mtime_ns
    for wrong in (
        CalibrateConfig(folder.root, folds=1),
        CalibrateConfig(folder.root, good=tmp_path / "none"),
    ):
        with pytest.raises(InputError):
            calibrate(wrong)
    assert folder.calibration_path.stat().st_mtime_ns == stamp  # nothing was lost


def test_any_features_get_a_threshold_and_verdicts(capture: Path, tmp_path: Path) -> None:
    """EfficientNet-b4 with random weights, asked for at detection and at calibration."""
    torch.manual_seed(0)
    weights = tmp_path / "weights"
    weights.mkdir()
    network = EfficientNet.from_name("efficientnet-b4")
    torch.save(network.state_dict(), weights / "efficientnet-b4-6ed6700e.pth")
    model = train(small(capture, tmp_path / "model"))
    asked = DetectConfig(model, features="efficientnet_b4", weights=weights, output=tmp_path / "o")
    first = detect(asked).results
    assert "held-out views" in first["summary"]["threshold_message"]
    assert all(image["is_anomalous"] is not None for image in first["images"] if image["pose_ok"])
    calibrate(CalibrateConfig(model, features="efficientnet_b4", weights=weights))
    kept = ModelFolder(model).load_calibration(ITERATIONS).scores
    assert set(kept) == {"residual", "efficientnet_b4"}
    residual = detect(DetectConfig(model, output=tmp_path / "residual")).results
    assert residual["summary"]["threshold"] == kept["residual"].threshold(0.01).value
    again = detect(asked).results
    assert again["summary"]["threshold"] == pytest.approx(first["summary"]["threshold"], rel=1e-3)


def test_one_entry_adds_features(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GreyFeatures(RgbFeatures):
        name = "grey"

        def difference(self, query: Tensor, rendering: Tensor) -> Tensor:
            return (query - rendering).mean(dim=1).square()

    monkeypatch.setitem(FEATURES, "grey", lambda weights, device: GreyFeatures())
    model = train(small(capture, tmp_path / "model"))
    found = detect(DetectConfig(model, features="grey", output=tmp_path / "o")).results
    assert "held-out views" in found["summary"]["threshold_message"]
    assert found["settings"]["used"]["features"] == "grey"
    assert found["images"][0]["is_anomalous"] is not None
    with pytest.raises(InputError, match=r"choose one of residual, auto, rgb, lab, eff.*, grey"):
        detect(DetectConfig(model, features="red", output=tmp_path / "o"))


def test_an_edited_point_cloud_is_refused_until_it_is_calibrated(
    capture: Path, tmp_path: Path
) -> None:
    folder = ModelFolder(train(small(capture, tmp_path / "model")))
    gaussians = folder.load_gaussians(ITERATIONS)
    order = torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(0))
    folder.save_gaussians(gaussians.map(lambda tensor: tensor[order]), ITERATIONS)
    with pytest.raises(InputError, match=r"point_cloud.ply' is not the file .*calibrate.py"):
        detect(DetectConfig(folder.root, output=tmp_path / "o"))
    calibrate(CalibrateConfig(folder.root))
    assert detect(DetectConfig(folder.root, output=tmp_path / "o")).failures == []


def test_a_capture_that_has_moved_is_named_again(capture: Path, tmp_path: Path) -> None:
    source = shutil.copytree(capture, tmp_path / "before")
    model = train(small(source, tmp_path / "model"))
    sealed = ModelFolder(model).calibration_path.read_bytes()
    source.rename(tmp_path / "after")
    with pytest.raises(InputError, match="before"):
        calibrate(CalibrateConfig(model))
    calibrate(CalibrateConfig(model, source=tmp_path / "after"))
    assert ModelFolder(model).calibration_path.read_bytes() == sealed
    shutil.rmtree(tmp_path / "after/train")
    with pytest.raises(InputError):
        calibrate(CalibrateConfig(model, source=tmp_path / "after"))


def test_without_views_found_again_there_is_no_threshold(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that shows nothing yet: scores at wrong poses must not set a threshold."""
    model = train(small(capture, tmp_path / "model", iterations=5))
    assert "does not show its own held-out views" in capsys.readouterr().out
    stored = ModelFolder(model).load_calibration(5)
    assert stored.pose_check is None
    assert stored.scores == {}
    query = capture / "test/good/0.png"
    found = detect(DetectConfig(model, images=query, output=tmp_path / "o")).results
    assert found["summary"]["threshold"] is None
    assert found["images"][0]["is_anomalous"] is None
    said = capsys.readouterr().out
    assert "no verdicts" in said
    assert "images inspected" not in said


def test_too_few_held_out_views_are_said_to_give_no_threshold(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train(small(capture, tmp_path / "model", holdout_every=12))
    assert "warning: 2 held-out views are too few for a threshold" in capsys.readouterr().out
    assert ModelFolder(model).load_calibration(ITERATIONS).scores == {}


def test_refined_poses_are_kept_and_stay_in_the_input_frame(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(capture, tmp_path / "model", iterations=200, refine_poses=True)
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
    before = point_cloud(folder.root, 200)
    folder.config_path.unlink()  # as if killed at the very end
    train(config)
    assert "train poses, round 1" not in capsys.readouterr().out
    assert point_cloud(folder.root, 200) == before
    with pytest.raises(InputError, match="refine_poses: True, now False"):
        train(small(capture, tmp_path / "model", iterations=200))


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
    for number, path in enumerate(sorted((source / "train/good").glob("*.png"))):
        image = Image.new("RGB", (32, 32), "white")
        image.paste(
            "black", (7 * number % 28, 11 * number % 28, 7 * number % 28 + 3, 11 * number % 28 + 3)
        )
        image.save(path)
    with pytest.raises(InputError, match="silhouettes have no point in common: check"):
        train(small(source, tmp_path / "empty_model", iterations=5))
    unseen = "train.largest_contribution"
    monkeypatch.setattr(unseen, lambda model, _: torch.zeros(len(model.gaussians)))
    with pytest.raises(InputError, match="Nothing of the object is left"):
        train(small(capture, tmp_path / "model", iterations=5))


def test_calibration_views_may_differ_in_size(tmp_path: Path) -> None:
    cameras = [Camera(torch.eye(4).double(), 9.0, 9.0, w / 2, 3.0, w, 6) for w in (4, 7)]
    images = [torch.randint(0, 256, (3, 6, w), dtype=torch.uint8) for w in (4, 7)]
    CalibrationViews(images, cameras).save(tmp_path / "views.npz")
    again = CalibrationViews.load(tmp_path / "views.npz")
    assert all(map(torch.equal, again.images, images))
    assert [camera.width for camera in again.cameras] == [4, 7]
