"""The detector detects: from images to verdicts on two objects, against bounds that noise fails."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from captures import frame, orbit, painted_ball, save_image, write_transforms
from PIL import Image, ImageDraw
from small_training import small

from anomaly import scoring
from detect import DetectConfig, detect
from train import TrainConfig, train

DATA = Path(__file__).parent.parent / "data" / "brick_dog"
BALL = 64  # pixels, width and height
EVERY = 3  # of the bundled class's queries are inspected


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painted ball in MAD's format; every other query has a dark spot."""
    root = tmp_path_factory.mktemp("data") / "01Ball"
    poses, frames, truth = orbit(60), [], []
    for number, pose in enumerate(poses):
        save_image(root / f"train/good/{number}.png", painted_ball(pose, BALL))
        frames.append(frame(f"train/good/{number}.png", pose))
    for number, pose in enumerate(orbit(26)[1:-1]):
        label = ("good", "Stains")[number % 2]
        image, name = painted_ball(pose, BALL), f"{label}/{number}"
        if label == "Stains":
            spot, mask = (28, 30, 33, 35), Image.new("L", image.size)
            ImageDraw.Draw(image).rectangle(spot, fill=(20, 20, 20))
            ImageDraw.Draw(mask).rectangle(spot, fill=255)
            save_image(root / f"ground_truth/{name}_mask.png", mask)
        save_image(root / f"test/{name}.png", image)
        truth.append(frame(f"test/{name}.png", pose))
    write_transforms(root / "transforms.json", frames)
    write_transforms(root / "test_poses.json", truth)
    return root


@pytest.fixture(scope="module")
def ball_model(ball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the ball, trained for seconds."""
    model = tmp_path_factory.mktemp("out") / "Ball"
    return train(small(ball, model, iterations=400, max_gaussians=3_000))


@pytest.fixture(scope="module")
def brick_dog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled class with a third of its queries."""
    root = tmp_path_factory.mktemp("data") / "brick_dog"
    for path in DATA.rglob("*.*"):
        relative = path.relative_to(DATA)
        number = int(path.stem.removesuffix("_mask")) if path.stem[0].isdigit() else 0
        if relative.parts[0] in ("test", "ground_truth") and number % EVERY:
            continue
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(path, root / relative)
    return root


@pytest.fixture(scope="module")
def brick_model(brick_dog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half the resolution and a fifth of the iterations of the default."""
    model = tmp_path_factory.mktemp("out") / "brick_dog"
    return train(
        TrainConfig(brick_dog, model, iterations=600, max_gaussians=12_000, resolution=200)
    )


def check(results: dict[str, Any], auroc: float, aupro: float, flagged: float) -> None:
    """Defects outscore good images, and the threshold tells them apart; raises AssertionError."""
    summary, images = results["summary"], results["images"]
    good = [image for image in images if image["label"] == "good"]
    defective = [image for image in images if image["label"] != "good"]
    best = max(image["score"] for image in defective)
    assert best > max(image["score"] for image in good)
    assert summary["image_auroc"] >= auroc
    assert summary["aupro"] >= aupro
    assert sum(image["is_anomalous"] is True for image in good) <= 1
    found = sum(image["is_anomalous"] is True for image in defective)
    assert found >= flagged * len(defective)
    assert all(image["regions"] for image in defective if image["is_anomalous"])


def test_a_spot_on_a_ball_is_found(ball_model: Path, tmp_path: Path) -> None:
    results = detect(DetectConfig(ball_model, output=tmp_path)).results
    check(results, auroc=0.99, aupro=0.9, flagged=0.9)
    assert results["summary"]["pose"]["n_within_1deg"] == results["summary"]["n_images"]


def test_a_map_of_noise_does_not_pass(
    ball_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, generator = scoring.NormalModelScorer.__call__, torch.Generator().manual_seed(0)

    def noise(*inputs: Any) -> scoring.Scored:
        scored = right(*inputs)
        values = torch.rand(scored.anomaly_map.shape, generator=generator) * 40.0
        return scored._replace(anomaly_map=values, score=values.amax(dim=(-2, -1)))

    monkeypatch.setattr(scoring.NormalModelScorer, "__call__", noise)
    results = detect(DetectConfig(ball_model, output=tmp_path)).results
    with pytest.raises(AssertionError):
        check(results, auroc=0.9, aupro=0.5, flagged=0.5)


def test_the_bundled_class_at_half_size(brick_model: Path, tmp_path: Path) -> None:
    results = detect(DetectConfig(brick_model, output=tmp_path)).results
    check(results, auroc=0.8, aupro=0.95, flagged=0.2)
    pose = results["summary"]["pose"]
    assert pose["n_within_1deg_and_0.02"] == results["summary"]["n_images"]
    assert pose["rotation_deg_median"] < 0.2
    assert all(image["pose_ok"] for image in results["images"])
