"""Lens distortion is undone on reading, held against OpenCV's own inverse of the same model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import captures
import cv2
import numpy as np
import pytest
import torch
from captures import camera_at, orbit
from PIL import Image

from scene import Camera, Distortion, InputError, read_capture, read_mask, read_train_images

SIZE = 96
LENSES: dict[str, dict[str, Any]] = {
    "barrel": {"radial": (-0.25, 0.05)},
    "pincushion": {"radial": (0.3, -0.1, 0.02)},
    "tangential": {"radial": (0.05,), "tangential": (0.01, -0.02)},
    "rational": {"radial": (0.4, 0.1, 0.0), "divisor": (0.5, 0.05, 0.01)},
}


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth colours of rays (x, y, 1), [..., 3] in 0..1."""
    waves = [np.sin(9 * x + 2 * y), np.sin(7 * y - 3 * x + 1), np.cos(8 * (x + y))]
    return np.stack([0.5 + 0.4 * wave for wave in waves], axis=-1)


def pixels_of(camera: Camera) -> np.ndarray:
    columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    return np.stack([columns, rows], axis=-1)


def bent_image(camera: Camera, lens: dict[str, Any]) -> np.ndarray:
    """What the lens shows of the pattern, [H, W, 3], by OpenCV's inverse."""
    k = [*lens["radial"], 0, 0, 0][:3]
    p = lens.get("tangential", (0, 0))
    d = [*lens.get("divisor", ()), 0, 0, 0][:3]
    coefficients = np.array([k[0], k[1], *p, k[2], *d])
    criteria = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 200, 1e-12)
    points = pixels_of(camera).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(points, camera.intrinsics.numpy(), coefficients, criteria=criteria)
    x, y = rays.reshape(camera.height, camera.width, 2).transpose(2, 0, 1)
    return pattern(x, y)


def off_centre() -> Camera:
    camera = camera_at(orbit(1)[0], SIZE, 0.9)
    return replace(camera, cx=46.0, cy=50.0, height=72)


@pytest.mark.parametrize("name", LENSES)
def test_the_pinhole_shows_what_is_there_and_nothing_beyond_the_image(name: str) -> None:
    camera = off_centre()
    lens = Distortion.of(camera, "here", **LENSES[name])
    assert lens is not None
    pinhole = lens.pinhole(camera)
    bent = bent_image(camera, LENSES[name]).transpose(2, 0, 1).astype(np.float32)
    straight = lens.undone(bent)
    x, y = ((pixels_of(camera) - (pinhole.cx, pinhole.cy)) / (pinhole.fx, pinhole.fy)).T
    expected = pattern(x.T, y.T).transpose(2, 0, 1)
    assert np.abs(bent - expected).max() > 0.05  # else nothing would be tested
    inner = np.abs(straight - expected)[:, 2:-2, 2:-2]
    assert inner.max() < 0.004
    assert np.abs(straight - expected).max() < 0.08  # a replicated border would be far off
    smaller = lens.undone(bent, (24, 18))
    assert smaller.shape == (3, 36, 48)  # twice what is wanted


def test_the_pinhole_keeps_what_it_can() -> None:
    camera = camera_at(orbit(1)[0], SIZE, 0.9)
    barrel = Distortion.of(camera, "here", (-0.2,))
    pincushion = Distortion.of(camera, "here", (0.2,))
    assert barrel is not None
    assert pincushion is not None
    assert barrel.zoom < 1 < pincushion.zoom
    assert Distortion.of(camera, "here", (0.0, 0.0), (0.0, 0.0)) is None


@pytest.mark.parametrize("radial", [(-3.0,), (50.0, -900.0), (1e9,)])
def test_a_lens_that_folds_the_image_over_is_refused(radial: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"^here: the lens distortion .* folds the image over"):
        Distortion.of(camera_at(orbit(1)[0], SIZE, 0.9), "here", radial)


def test_a_model_folder_keeps_the_lens() -> None:
    lens = Distortion.of(off_centre(), "here", **LENSES["rational"])
    assert lens is not None
    stored = json.loads(json.dumps(lens.as_json()))
    assert Distortion.from_json(stored) == lens
    assert Distortion.from_json(None) is None
    for damage in ({"zoom": 0}, {"focal": [1]}, {"radial": [float("nan")]}, {"focal": [0, 1]}):
        with pytest.raises((ValueError, InputError)):
            Distortion.from_json(stored | damage)


BENT = {"k1": -0.25, "k2": 0.05, "k3": 0.01, "p1": 0.004, "p2": -0.003}


def bent_capture(root: Path) -> Path:
    """Three views of the pattern through one bent lens, in MAD's layout."""
    camera = camera_at(orbit(1)[0], SIZE, 0.9)
    lens = {"radial": (-0.25, 0.05, 0.01), "tangential": (0.004, -0.003)}
    image = Image.fromarray((255 * bent_image(camera, lens)).round().astype(np.uint8))
    frames = []
    for i, pose in enumerate(orbit(3)):
        captures.save_image(root / f"train/good/{i}.png", image)
        frames.append(captures.frame(f"train/good/{i}.png", pose))
    captures.write_transforms(root / "transforms.json", frames, camera_angle_x=0.9, **BENT)
    return root


def test_train_views_of_a_bent_lens_are_read_as_pinholes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        capture = read_capture(bent_capture(tmp_path), 48)
    assert "the lens distortion of 3 of 3 train views is undone on reading" in caplog.text
    camera = capture.views[0].camera
    x, y = ((pixels_of(camera) - (camera.cx, camera.cy)) / (camera.fx, camera.fy)).T
    expected = torch.from_numpy(pattern(x.T, y.T).transpose(2, 0, 1))
    image = read_train_images(capture, capture.views).floats()[0]
    assert (image - expected).abs().max() < 0.02
    assert camera.width == 48


COLMAP = [
    ((2, "SIMPLE_RADIAL", (44.0, 16.0, 15.0, 0.1)), (0.1,), (0.0, 0.0), ()),
    ((3, "RADIAL", (44.0, 16.0, 15.0, 0.1, -0.02)), (0.1, -0.02), (0.0, 0.0), ()),
    ((4, "OPENCV", (44.0, 45.0, 16.0, 15.0, 0.1, -0.02, 0.003, -0.004)),
     (0.1, -0.02, 0.0), (0.003, -0.004), (0.0, 0.0, 0.0)),
    ((6, "FULL_OPENCV", (44.0, 45.0, 16.0, 15.0, 0.1, -0.02, 0.003, -0.004, 0.01, 0.2, 0.1, 0.05)),
     (0.1, -0.02, 0.01), (0.003, -0.004), (0.2, 0.1, 0.05)),
]  # fmt: skip


@pytest.mark.parametrize(("lens", "radial", "tangential", "divisor"), COLMAP)
@pytest.mark.parametrize("binary", [True, False])
def test_colmap_lenses_mean_what_colmap_means(
    tmp_path: Path, lens: tuple, radial: tuple, tangential: tuple, divisor: tuple, binary: bool
) -> None:
    view = read_capture(captures.write_colmap(tmp_path, lens=lens, binary=binary)).views[0]
    assert view.lens is not None
    assert (view.lens.radial, view.lens.tangential) == (radial, tangential)
    assert view.lens.divisor == divisor
    assert view.camera.fx == pytest.approx(44.0 * view.lens.zoom)
    assert view.camera.cy == pytest.approx(15.0)


def test_masks_of_queries_are_straightened_too(tmp_path: Path) -> None:
    camera = camera_at(orbit(1)[0], SIZE, 0.9)
    lens = Distortion.of(camera, "here", (-0.25,))
    assert lens is not None
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:8] = 255  # along the upper border, whose ends a pinhole shows farther out
    Image.fromarray(mask).save(tmp_path / "mask.png")
    straight = read_mask(tmp_path / "mask.png", (SIZE, SIZE), lens)
    heights = straight.sum(dim=0)
    # rays r (1 - 0.25 r^2) = 48 / 99.4 and 40 / 99.4 give r = .516 and .421: 8.8 of 48 rows
    assert heights[SIZE // 2] == 9
    assert heights[0] < 9
    assert read_mask(tmp_path / "mask.png", (SIZE, SIZE)).sum() == 8 * SIZE
