"""Pictures of a fixed camera without the part: what stands behind it, known at every pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cutout import Mask, Picture, Silhouette, Tolerance, largest, silhouette_before

_FLOOR, _MEAN_FLOOR = 10 / 255, 5 / 255  # of the tolerance: what one picture cannot tell
_SPREADS = 4.0  # robust standard deviations over the pictures
_MOST, _MOST_SPREADS = 0.75, 1.15  # of the pictures, and how far out they lie in a normal one
_SHIFTED = 0.25  # of the range of the colours next to a pixel: edges move by that much of a pixel
_DARK = 0.06  # darker colours tell no exposure
_ROUNDS = 4
_NEAR = 0.12  # first tolerance, while the exposure is not known
_LEAST = 0.02  # of the pixels must be background, or the exposure is left as it is


@dataclass(frozen=True)
class EmptyPictures:
    """Median and spread of one or several pictures of the empty place."""

    colours: Picture
    spread: np.ndarray  # [H, W] float32, standard deviation of the worst channel, without outliers

    @staticmethod
    def of(pictures: Sequence[Picture]) -> "EmptyPictures":
        """From pictures of one size, each brought to the exposure of the first."""
        first = pictures[0]
        everything = np.ones(first.shape[:2], bool)
        stack = np.stack([_exposed_as(each, first, everything) for each in pictures])
        median = np.median(stack, axis=0).astype(np.float32)
        spread = np.quantile(np.abs(stack - median), _MOST, axis=0).max(axis=2) / _MOST_SPREADS
        return EmptyPictures(median, spread.astype(np.float32))

    def silhouette(self, image: Picture) -> tuple[Silhouette, float]:
        """The part in a picture of the same camera, and how much brighter the picture is.

        Another exposure or white balance is fitted where the background is seen.
        """
        tolerance = self._tolerance()
        seen = largest(image - self.colours) < _NEAR
        for turn in range(_ROUNDS):
            behind = _exposed_as(self.colours, image, seen)
            found = silhouette_before(image, behind, tolerance)
            again = ~found.mask & (largest(image - behind) < _NEAR)
            if (again == seen).all() or turn == _ROUNDS - 1:
                break
            seen = again
        return found, float(behind.mean() / max(float(self.colours.mean()), 1e-6))

    def _tolerance(self) -> Tolerance:
        """Of each pixel: noise, and edges that a shaking camera moves a little."""
        import cv2  # 0.3 s to import

        kernel = np.ones((3, 3), np.uint8)
        span = (cv2.dilate(self.colours, kernel) - cv2.erode(self.colours, kernel)).max(axis=2)
        room = _SPREADS * self.spread + _SHIFTED * span
        return Tolerance(np.maximum(_FLOOR, room), np.maximum(_MEAN_FLOOR, room))


def _exposed_as(picture: Picture, wanted: Picture, where: Mask) -> Picture:
    """A picture with the exposure and white balance of another, by the pixels of a mask."""
    if where.mean() < _LEAST:
        where = np.ones_like(where)
    gains = []
    for channel in range(3):
        mine, other = picture[where][:, channel], wanted[where][:, channel]
        told = (mine > _DARK) & (other > _DARK) & (mine < 0.98) & (other < 0.98)
        gains.append(float(np.median(other[told] / mine[told])) if told.sum() > 50 else 1.0)
    return (picture * np.asarray(gains, np.float32)).clip(0.0, 1.0)
