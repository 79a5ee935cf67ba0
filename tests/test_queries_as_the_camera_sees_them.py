"""Queries: the lens of the train views is undone, and EXIF orientation counts as it did there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from pose_scenes import lens, tiny_model

from pipeline.inspector import Inspector
from scene import Distortion, InputError, World, read_image


def inspector(width: int = 64, height: int = 64, **more: object) -> Inspector:
    """An inspector that reads queries; the rest of it is not used."""
    camera = replace(lens(), width=width, height=height)
    values = {"matcher": None, "settings": None, "scorer": None} | more
    return Inspector("tiny", tiny_model(), camera, World(), **values)  # type: ignore[arg-type]


def save(path: Path, orientation: int = 1, size: tuple[int, int] = (64, 48)) -> Path:
    """Noise as PNG, which says by EXIF how it is to be turned."""
    values = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    image = Image.fromarray(values)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def as_shown(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(ImageOps.exif_transpose(image))).permute(2, 0, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_viewers_do(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", orientation)
    image = read_image(path, orientation=orientation)
    assert torch.equal((image * 255).round().byte(), as_shown(path))
    size = (48, 64) if orientation >= 5 else (64, 48)
    assert torch.equal(read_image(path, size, orientation=orientation), image)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_query_is_turned_unless_that_of_the_train_views_was_ignored(
    tmp_path: Path, orientation: int
) -> None:
    path = save(tmp_path / "a.png", orientation, (64, 64))
    turned, stored = (inspector(turns=turns).read(path) for turns in (True, False))
    assert torch.equal((turned * 255).round().byte(), as_shown(path))
    assert torch.equal(stored, read_image(path))


def test_the_aspect_decides_where_only_one_way_fits(tmp_path: Path) -> None:
    portrait, landscape = inspector(48, 64, turns=False), inspector(64, 48)
    path = save(tmp_path / "a.png", 6)
    assert torch.equal((portrait.read(path) * 255).round().byte(), as_shown(path))
    assert torch.equal(landscape.read(path), read_image(path))
    with pytest.raises(InputError, match="is 64 x 48, the model was trained on 64 x 64: crop"):
        inspector().read(path)


def test_the_lens_of_the_train_views_is_undone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 1, (64, 64))
    bent = Distortion.of(lens(), "here", (-0.3,))
    assert bent is not None
    image = inspector(lens=bent).read(path)
    expected = bent.undone(read_image(path).numpy())
    torch.testing.assert_close(image, torch.from_numpy(expected), rtol=0, atol=1e-6)
    assert (image - read_image(path)).abs().max() > 0.1
