"""Pictures of a training, and calibration.html: what the model folder knows, for people."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_detect
import torch
from PIL import Image
from pose_scenes import lens, orbit
from small_training import ITERATIONS, point_cloud, small
from test_report import Page

from calibrate import CalibrateConfig, calibrate
from pipeline.model_folder import ModelFolder
from report.directions import direction_map
from scene import InputError
from train import train

capture = test_detect.capture  # fixture


@pytest.fixture(scope="module")
def model(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was watched while it learned."""
    return train(small(capture, tmp_path_factory.mktemp("out") / "Ball", view=80))


def test_pictures_show_the_model_learning(model: Path) -> None:
    pictures = sorted((model / "progress").iterdir())
    names = [f"iteration_{number:06d}.jpg" for number in (80, 160, ITERATIONS)]
    assert [path.name for path in pictures] == names
    panels = [np.asarray(Image.open(path), float) for path in (pictures[0], pictures[-1])]
    assert panels[0].shape == (3 * 32, 3 * 32, 3)  # three views of 32 pixels a side
    train_views = [panel[:, :32] for panel in panels]
    assert np.abs(train_views[0] - train_views[1]).mean() < 3  # the same views, but for JPEG
    differences = [panel[:, 64:].mean() for panel in panels]
    assert 0 < differences[1] < differences[0]
    errors = [np.abs(panel[:, :32] - panel[:, 32:64]).mean() for panel in panels]
    assert errors[1] < errors[0]


def test_watching_changes_no_bit(model: Path, capture: Path, tmp_path: Path) -> None:
    alone = train(small(capture, tmp_path / "Ball"))
    assert point_cloud(alone) == point_cloud(model)
    assert not (alone / "progress").exists()


def test_another_training_forgets_the_pictures(capture: Path, tmp_path: Path) -> None:
    config = small(capture, tmp_path / "Ball", view=5, iterations=10)
    train(config)
    train(replace(config, view=0, seed=1, overwrite=True))
    assert not (tmp_path / "Ball/progress").exists()
    with pytest.raises(InputError, match="--view must be at least 1"):
        train(replace(config, view=-1))


def page_of(model: Path) -> tuple[str, dict]:
    """All texts of calibration.html, and its 3D document."""
    html = (model / "calibration.html").read_text("utf-8")
    text = html.split('<script type="application/json" id="scene">')[1].split("</script>")[0]
    return " ".join(" ".join(Page(html).texts).split()), json.loads(text)


def test_the_page_shows_scores_threshold_worst_views_and_coverage(model: Path) -> None:
    text, scene = page_of(model)
    calibration = ModelFolder(model).load_calibration(ITERATIONS)
    scores = calibration.scores["residual"]
    held_out = ModelFolder(model).load_config()["held_out"]
    assert f"Threshold {scores.threshold().value:.4g}." in text
    for rate in (0.05, 0.01):
        assert f"{100 * rate:g} % {scores.threshold(rate).value:.4g}" in text
    worst = text.split("Held-out views, the worst first")[1]
    assert f" {scores.scores[-1]:.4g} " in worst
    assert "Half of all directions are within" in text
    assert "The training" in text  # its last picture
    assert len(scene["train"]) == 18
    names = [image["name"] for image in scene["images"]]
    assert names == held_out or len(names) < len(held_out)
    assert [layer["name"] for layer in scene["layers"]] == ["seen", "residual"]


def test_calibrating_again_renews_the_page(model: Path) -> None:
    page = model / "calibration.html"
    page.write_text("old")
    calibrate(CalibrateConfig(model))
    assert "Threshold" in page_of(model)[0]


def test_directions_without_a_train_view_are_found() -> None:
    cameras = [lens(view.world_to_camera, 32) for view in orbit(24)]
    upper = [c for c in cameras if float(c.centre[2]) > 0.2]
    found = direction_map(torch.zeros(3), upper, cameras[:1])
    assert len(found.train) == len(upper)
    assert all(elevation > 0 for _, elevation in found.train)
    missing = {corner[:2]: corner[2] for corner in found.cells}
    assert missing[(0, -90)] == 1.0  # nothing from below
    azimuth, elevation = found.train[0]
    cell = 10 * (azimuth // 10), 10 * (elevation // 10)
    assert missing[cell] < 0.2
    assert "the farthest is" in found.sentence
