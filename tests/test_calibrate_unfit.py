"""A model that does not show its own held-out views gives no verdicts, and says why."""

from pathlib import Path

import numpy as np
import pytest
from captures import write_mad
from PIL import Image
from small_training import small

from detect import DetectConfig, detect
from pipeline.model_folder import ModelFolder
from scene import InputError
from train import train


@pytest.fixture(scope="module")
def turntable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball that turns before a pattern that stands still, so that the poses fit the ball only."""
    source = write_mad(tmp_path_factory.mktemp("data") / "01Ball", views=24)
    pattern = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for path in (source / "train/good").glob("*.png"):
        image = np.asarray(Image.open(path).convert("RGB"))
        behind = np.asarray(Image.fromarray(pattern).resize(image.shape[1::-1], Image.NEAREST))
        empty = (image > 250).all(axis=2, keepdims=True)
        Image.fromarray(np.where(empty, behind, image)).save(path)
    return source


def test_a_background_that_does_not_turn_is_refused_before_the_training(
    turntable: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="turned before a background that did not turn"):
        train(small(turntable, tmp_path / "model"))


def test_a_model_that_has_hardly_learnt_gives_no_verdicts_and_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_mad(tmp_path / "01Ball", views=24)
    folder = ModelFolder(train(small(source, tmp_path / "model", iterations=2)))
    assert "the model does not show its own held-out views" in capsys.readouterr().out
    calibration = folder.load_calibration(2)
    assert calibration.scores == {}
    assert calibration.pose_check is None
    detect(DetectConfig(folder.root, threads=1))
    assert "background turns with the object" in capsys.readouterr().out
