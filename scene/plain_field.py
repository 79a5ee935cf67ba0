"""A plain background that is not of one value: noise, uneven light, creases of a sheet.

A polynomial is fitted to the border of the image, robustly, since the object may reach over a part
of it; from there the background is followed inwards as far as it changes slowly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cutout import Mask, Picture, Silhouette, Tolerance, largest, silhouette_before

_SIZE = 160  # pixels of the longer side of the image in which the background is followed
_RING = 0.02  # of that image, on each side: its border
_ROUNDS, _TUKEY = 10, 4.685
_FINE = 5 / 255  # of the border: what varies less may be of any pattern
_LAG, _NOISE, _SMOOTH_LIGHT = 2, 0.25, 0.85  # pixels; correlations over them of noise and of light
_LEAST_SPREAD = 1 / 255  # what images of 8 bits cannot tell
_MOST_SPREAD = 14 / 255  # of the border: what varies more is no plain background
# times the median difference (of the worst channel) of background: farther out lies the object;
# 3 to 5.7 standard deviations of noise that is the same, or another, in all channels
_SPREADS, _MEAN_SPREADS = 4.5, 5.5
_FLOOR, _MEAN_FLOOR = 8 / 255, 4 / 255  # of the tolerance, of a pixel and of a mean over a window
_AGREES = 0.6  # of the border, at least, that fits the polynomial
_FOLLOWED = 8  # times the background is followed further inwards
_SMOOTH = 0.05  # of the side: what changes over less is not followed
_BORDER, _IMAGE = 0.5, 0.85  # of these the background, and the object, may fill at least and most
_UNEVEN = 0.5  # of the brightest place, by which the darkest may differ: no sheet is darker
_EVEN = 8 / 255  # over the image; a background that varies less is of one colour


@dataclass(frozen=True)
class PlainField:
    """What stands behind the object at every pixel, and the object before it."""

    behind: Picture
    spread: float  # median difference of the background's pixels from it
    silhouette: Silhouette

    @property
    def varies(self) -> float:
        """Between the brightest and the darkest place, 0..1."""
        return float(np.ptp(self.behind.mean(axis=2)))

    @property
    def is_even(self) -> bool:
        """Whether it is of one colour, but for noise."""
        return self.varies < _EVEN


def plain_field(image: Picture) -> PlainField | None:
    """The plain background of an image; None where there is none."""
    import cv2  # 0.3 s to import

    height, width = image.shape[:2]
    scale = min(1.0, _SIZE / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)
    ring = _ring(*small.shape[:2])
    start = _polynomial(small, ring)
    off = largest(small - start)
    spread = max(_LEAST_SPREAD, float(np.median(off[ring])))
    if spread > _MOST_SPREAD or (off[ring] < _SPREADS * spread).mean() < _AGREES:
        return None
    if spread > _FINE and _is_texture(
        (small - start).mean(axis=2), ring & (off < _SPREADS * spread)
    ):
        return None
    followed = _followed(small, start, ring, max(_FLOOR, _SPREADS * spread))
    light = followed.mean(axis=2)
    if float(np.ptp(light)) > max(_EVEN, _UNEVEN * float(light.max())):
        return None
    behind = np.asarray(cv2.resize(followed, (width, height)), np.float32)
    tolerance, noise = _tolerance(image, behind, max(_FLOOR, _SPREADS * spread))
    found = silhouette_before(image, behind, tolerance)
    mask = found.mask
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if not mask.any() or border.mean() > 1 - _BORDER or mask.mean() > _IMAGE:
        return None
    return PlainField(behind, noise, found)


def _ring(height: int, width: int) -> Mask:
    edge = max(2, round(_RING * max(height, width)))
    ring = np.ones((height, width), bool)
    ring[edge:-edge, edge:-edge] = False
    return ring


def _is_texture(residual: NDArray[np.float32], known: Mask) -> bool:
    """Whether what is left of a border is a pattern, as of wood, and no noise or uneven light.

    Neighbours of noise differ, those of light are alike; those of a pattern are in between.
    """
    products = squares = 0.0
    for first, second in (
        ((slice(_LAG, None), slice(None)), (slice(None, -_LAG), slice(None))),
        ((slice(None), slice(_LAG, None)), (slice(None), slice(None, -_LAG))),
    ):
        both = known[first] & known[second]
        a, b = residual[first][both].astype(np.float64), residual[second][both].astype(np.float64)
        products, squares = products + float(a @ b), squares + float(a @ a + b @ b) / 2
    return _NOISE < products / max(squares, 1e-12) < _SMOOTH_LIGHT


def _polynomial(image: Picture, ring: Mask) -> Picture:
    """The polynomial of second order that most of the border lies on (Tukey's biweight)."""
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1)
    design, target = terms[ring], image[ring].astype(np.float64)
    middle = np.median(target, axis=0)
    residual = np.abs(target - middle).max(axis=1)
    ridge = 1e-6 * len(target) * np.diag([0.0, 1, 1, 1, 1, 1])
    for _ in range(_ROUNDS):
        deviation = max(_LEAST_SPREAD, 1.4826 * float(np.median(residual)))
        weight = (1 - (residual / (_TUKEY * deviation)) ** 2).clip(0) ** 2
        weighted = design * weight[:, None]
        found = np.linalg.lstsq(weighted.T @ design + ridge, weighted.T @ target, rcond=None)[0]
        residual = np.abs(target - design @ found).max(axis=1)
    return np.asarray(terms @ found, np.float32)


def _followed(image: Picture, start: Picture, ring: Mask, tolerance: float) -> Picture:
    """The background, from the border inwards; behind the object it is drawn on smoothly."""
    import cv2

    behind, known = start, np.zeros_like(ring)
    smooth = cv2.blur(image, (5, 5))  # a pale object stands out of its noise
    usual = float(np.median(largest(smooth - start)[ring]))
    tolerance_of_means = max(_FLOOR, _SPREADS * usual)
    sigma = _SMOOTH * max(image.shape[:2])
    for _ in range(_FOLLOWED):
        near = largest(image - behind) < tolerance
        near &= largest(smooth - behind) < tolerance_of_means
        _, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=4)
        reached = near & np.isin(labels, np.unique(labels[ring & near]))
        if not reached.any() or (reached == known).all():
            break
        known = reached
        weight = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
        correction = np.zeros_like(start)
        for width in (4 * sigma, sigma):  # the narrow one where enough is known near by
            total = cv2.GaussianBlur(
                (image - start - correction) * weight[..., None], (0, 0), width
            )
            count = cv2.GaussianBlur(weight, (0, 0), width)[..., None]
            correction = correction + total / (count + 0.05)
        behind = start + correction
    return np.asarray(behind, np.float32)


def _tolerance(image: Picture, behind: Picture, rough: float) -> tuple[Tolerance, float]:
    """By how much the background differs from what is expected there: at most, and usually."""
    import cv2

    off = image - behind
    means = largest(np.asarray(cv2.blur(off, (5, 5)), np.float32))
    near = cv2.erode((largest(off) < 2 * rough).astype(np.uint8), np.ones((7, 7))) > 0
    if not near.any():
        near = np.ones_like(near)
    noise = float(np.median(largest(off)[near]))
    mean = max(_MEAN_FLOOR, _MEAN_SPREADS * float(np.median(means[near])))
    return Tolerance(max(_FLOOR, _SPREADS * noise), mean), noise
