"""Plain backgrounds that are noisy, uneven or shadowed, and what is no plain background."""

import cv2
import numpy as np
import pytest

from scene.cutout import Mask, Picture, before_colour, soft_edge
from scene.plain_field import plain_field

SIZE = 120
Y, X = np.mgrid[:SIZE, :SIZE]
DISC: Mask = (X - 62) ** 2 + (Y - 55) ** 2 < 24**2


def sheet(value: float = 0.9, uneven: float = 0.0, noise: float = 0.0) -> Picture:
    """Paper, brighter at the upper left."""
    random = np.random.default_rng(0)
    light = value * (1 - uneven * (X + Y) / (2 * SIZE))
    picture = light[..., None] + noise * random.normal(size=(SIZE, SIZE, 3))
    return np.asarray(picture.clip(0, 1), np.float32)


def with_disc(picture: Picture, colour: tuple[float, float, float], mask: Mask = DISC) -> Picture:
    """Something of one colour on the paper."""
    return np.where(mask[..., None], np.asarray(colour, np.float32), picture)


def shadowed(picture: Picture) -> Picture:
    """A soft shadow to the right of the disc."""
    shade = ((X - 92) ** 2 / 2 + (Y - 70) ** 2 < 15**2).astype(np.float32)
    shade = cv2.GaussianBlur(shade, (0, 0), 4.0)
    return np.asarray(picture * (1 - 0.4 * shade[..., None]), np.float32)


def overlap(image: Picture, mask: Mask = DISC) -> float:
    """Intersection over union of what is found and what is there."""
    field = plain_field(image)
    assert field is not None
    found = field.silhouette.mask
    return float((found & mask).sum() / (found | mask).sum())


@pytest.mark.parametrize("uneven", [0.0, 0.15, 0.4])
def test_an_object_on_an_uneven_sheet_is_found(uneven: float) -> None:
    image = with_disc(sheet(uneven=uneven), (0.7, 0.2, 0.1))
    assert overlap(image) > 0.98
    field = plain_field(image)
    assert field is not None
    assert field.is_even == (uneven == 0)


def test_the_tolerance_grows_with_the_noise_of_the_ground() -> None:
    cloth = sheet(0.15, noise=0.04)
    field = plain_field(with_disc(cloth, (0.8, 0.75, 0.7)))
    assert field is not None
    assert field.spread > 0.03
    assert overlap(with_disc(cloth, (0.8, 0.75, 0.7))) > 0.95


@pytest.mark.parametrize("noise", [0.0, 0.004])
def test_a_pale_object_on_a_pale_ground_is_not_eaten(noise: float) -> None:
    """It differs by 8 to 10 of 255 only."""
    image = with_disc(sheet(0.9, uneven=0.1, noise=noise), (0.9, 0.895, 0.89))
    assert overlap(image) > 0.85


def test_a_pale_object_is_found_in_the_noise_that_would_hide_its_pixels() -> None:
    clean = with_disc(sheet(0.8), (0.85, 0.85, 0.85))
    noise = 0.012 * np.random.default_rng(1).normal(size=clean.shape)
    assert overlap(np.asarray(clean + noise, np.float32)) > 0.8


def test_a_soft_shadow_belongs_to_the_ground() -> None:
    image = with_disc(shadowed(sheet(uneven=0.1)), (0.7, 0.2, 0.1))
    assert overlap(image) > 0.93


def test_a_grey_object_is_no_shadow() -> None:
    image = with_disc(sheet(uneven=0.1), (0.5, 0.5, 0.5))
    assert overlap(image) > 0.98


def test_an_object_that_reaches_over_the_border_is_found() -> None:
    mask: Mask = (X > 50) & (X < 80) & (Y > 30)
    assert overlap(with_disc(sheet(uneven=0.1), (0.1, 0.2, 0.6), mask), mask) > 0.97


def test_a_cluttered_place_is_no_plain_background() -> None:
    blots = np.random.default_rng(2).uniform(size=(9, 9, 3)).astype(np.float32)
    assert plain_field(np.asarray(cv2.resize(blots, (SIZE, SIZE)), np.float32)) is None


def test_a_sheet_without_an_object_gives_nothing() -> None:
    assert plain_field(sheet(uneven=0.1)) is None


def test_the_edge_takes_its_share_of_both_colours() -> None:
    """A pixel half covered is half opaque, and before another colour half of that."""
    image = with_disc(sheet(1.0), (0.2, 0.2, 0.2))
    share = cv2.blur(DISC.astype(np.float32), (2, 2))
    image = np.asarray(0.2 * share + (1 - share), np.float32)[..., None].repeat(3, axis=2)
    alpha = soft_edge(image, share > 0.5)
    np.testing.assert_allclose(alpha, share, atol=0.03)
    black = before_colour(image, alpha, (0.0, 0.0, 0.0)).numpy()
    np.testing.assert_allclose(black[0], 0.2 * share, atol=0.03)


def test_a_pattern_as_of_wood_is_no_plain_background() -> None:
    grain = 0.5 + 0.06 * np.sin(2 * np.pi * (Y + 3 * np.sin(X / 25)) / 7)
    wood = np.asarray(np.repeat(grain[..., None], 3, axis=2), np.float32)
    assert plain_field(with_disc(wood, (0.1, 0.2, 0.8))) is None


def test_noise_as_strong_as_a_pattern_is_a_plain_background() -> None:
    assert overlap(with_disc(sheet(0.5, noise=0.03), (0.1, 0.2, 0.8))) > 0.95
