"""Masks: the defect is found in whatever values a file says it, and odd masks are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scene import InputError, mask_doubt, read_mask

DEFECT = np.zeros((12, 12), bool)
DEFECT[2:6, 3:9] = True


def saved(tmp_path: Path, values: np.ndarray, suffix: str = ".png") -> Path:
    path = tmp_path / f"mask{suffix}"
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("pair", [(0, 255), (0, 1), (0, 2), (1, 2), (0, 127), (3, 90), (254, 255)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_of_two_values_the_higher_is_the_defect(
    tmp_path: Path, pair: tuple[int, int], kind: type
) -> None:
    values = np.where(DEFECT, pair[1], pair[0]).astype(kind)
    assert np.array_equal(read_mask(saved(tmp_path, values)).numpy(), DEFECT)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_masks_of_32_bits_and_of_one_bit(tmp_path: Path, kind: type) -> None:
    assert np.array_equal(read_mask(saved(tmp_path, DEFECT.astype(kind), ".tif")).numpy(), DEFECT)
    assert np.array_equal(read_mask(saved(tmp_path, DEFECT)).numpy(), DEFECT)


@pytest.mark.parametrize("classes", [(1, 2), (1, 2, 3), (50, 100, 150), (85, 170, 255)])
def test_every_class_number_is_a_defect(tmp_path: Path, classes: tuple[int, ...]) -> None:
    values, expected = np.zeros((12, 12), np.uint8), np.zeros((12, 12), bool)
    for i, number in enumerate(classes):
        values[4 * i : 4 * i + 3, 2:7] = number
        expected[4 * i : 4 * i + 3, 2:7] = True
    assert np.array_equal(read_mask(saved(tmp_path, values)).numpy(), expected)


def test_class_numbers_of_a_palette_count_by_their_colours_or_numbers(tmp_path: Path) -> None:
    for palette in ([0, 0, 0, 128, 0, 0], [0, 0, 0, 0, 0, 0], [255, 255, 255, 255, 0, 0]):
        image = Image.fromarray(DEFECT.astype(np.uint8), "P")
        image.putpalette(palette)
        image.save(tmp_path / "mask.png")
        assert np.array_equal(read_mask(tmp_path / "mask.png").numpy(), DEFECT)


def test_the_mask_may_lie_in_alpha_or_in_a_colour(tmp_path: Path) -> None:
    for paint in ((255, 255, 255), (0, 0, 0), (255, 0, 0)):
        values = np.zeros((12, 12, 4), np.uint8)
        values[DEFECT] = (*paint, 255)
        assert np.array_equal(read_mask(saved(tmp_path, values)).numpy(), DEFECT)
        values[~DEFECT, :3] = paint  # one colour all over
        assert np.array_equal(read_mask(saved(tmp_path, values)).numpy(), DEFECT)
    opaque = np.full((12, 12, 4), 255, np.uint8)
    opaque[~DEFECT, :3] = 0
    assert np.array_equal(read_mask(saved(tmp_path, opaque)).numpy(), DEFECT)
    red_on_white = np.full((12, 12, 3), 255, np.uint8)
    red_on_white[DEFECT, 1:] = 0
    assert np.array_equal(read_mask(saved(tmp_path, red_on_white)).numpy(), DEFECT)


def test_soft_edges_and_jpeg_count_from_the_middle_between_the_extremes(tmp_path: Path) -> None:
    large = np.kron(DEFECT, np.ones((8, 8), bool))
    image = Image.fromarray((large * 255).astype(np.uint8))
    image.save(tmp_path / "mask.jpg", quality=70)
    assert (read_mask(tmp_path / "mask.jpg").numpy() != large).mean() < 0.01
    image.resize((50, 50), Image.Resampling.BILINEAR).save(tmp_path / "mask.png")
    soft = read_mask(tmp_path / "mask.png", (96, 96)).numpy()
    assert (soft != large).mean() < 0.03


def test_reduced_masks_keep_what_covers_more_than_half_of_a_pixel(tmp_path: Path) -> None:
    large = np.kron(DEFECT, np.ones((4, 4), np.uint8))
    assert np.array_equal(read_mask(saved(tmp_path, large), (12, 12)).numpy(), DEFECT)


def test_a_mask_of_one_value_is_empty_or_full(tmp_path: Path) -> None:
    assert not read_mask(saved(tmp_path, np.zeros((4, 4), np.uint8))).any()
    assert read_mask(saved(tmp_path, np.full((4, 4), 255, np.uint8))).all()


def test_odd_masks_are_named() -> None:
    empty, full = np.zeros((10, 10), bool), np.ones((10, 10), bool)
    some = empty.copy()
    some[0, 0] = True
    assert "empty" in mask_doubt(empty, True)
    assert "marks 100% of the image" in mask_doubt(full, True)
    assert mask_doubt(some, True) == mask_doubt(empty, False) == ""
    assert mask_doubt(some, False) == "the mask of a good image marks 1.0% of it"


def test_masks_with_nan_are_refused(tmp_path: Path) -> None:
    values = np.where(DEFECT, np.nan, 0).astype(np.float32)
    with pytest.raises(InputError, match="infinite or NaN"):
        read_mask(saved(tmp_path, values, ".tif"))
