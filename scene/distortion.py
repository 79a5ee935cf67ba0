"""Lens distortion, undone where an image is read: inside there are pinhole cameras only.

OpenCV's model: a ray (x, y, 1) with r^2 = x^2 + y^2 meets the image plane at (x, y) times
(1 + k1 r^2 + k2 r^4 + ...) / (1 + d1 r^2 + ...), plus a tangential part by p1 and p2 (Brown 1966).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .errors import InputError
from .files import check_numbers

_MOST = 1e3  # a coefficient beyond that is no lens
_ZOOMS = (0.3, 3.0)  # between which the pinhole that sees nothing but the image is sought
_STEPS = 30  # of bisection
_SLACK = 0.0005  # of the image's side, that it may see beyond the border
_BORDER, _RADII = 64, 200  # places at which these are looked for
_KEPT_DETAIL = 2  # times the wanted size, at which an image is resampled
_PAIRS = ("tangential", "focal", "centre")

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Distortion:
    """How a lens bends what a pinhole camera shows, and the pinhole that takes its place.

    Both have one principal point; lengths are in shares of the image's width and height.
    """

    radial: tuple[float, ...]  # k1, k2, ...: of r^2, r^4, ...
    tangential: tuple[float, float]  # p1, p2
    divisor: tuple[float, ...]  # d1, d2, ...: COLMAP's FULL_OPENCV alone has them
    focal: tuple[float, float]  # of the bent image
    centre: tuple[float, float]  # principal point
    zoom: float = 1.0  # focal lengths of the pinhole, times those of the bent image

    @staticmethod
    def of(
        camera: Camera,  # as the file states it
        where: str,  # for errors
        radial: Sequence[float] = (),
        tangential: tuple[float, float] = (0.0, 0.0),
        divisor: Sequence[float] = (),
    ) -> "Distortion | None":
        """The distortion of a camera; None where it has none.

        The pinhole is the widest one that sees nothing but the image.

        Raises:
            InputError: the distortion folds the image over, or hardly anything is left of it.
        """
        values = (*radial, *tangential, *divisor)
        if not any(values):
            return None
        bent = Distortion(
            tuple(radial), tangential, tuple(divisor),
            (camera.fx / camera.width, camera.fy / camera.height),
            (camera.cx / camera.width, camera.cy / camera.height),
        )  # fmt: skip
        zoom = bent._widest() if max(map(abs, values)) <= _MOST else None
        if zoom is None or bent._folds(zoom):
            raise InputError(
                f"{where}: the lens distortion (radial {bent.radial}, tangential {tangential}) "
                "folds the image over or leaves nothing of it: correct the lens."
            )
        return replace(bent, zoom=zoom)

    def pinhole(self, camera: Camera) -> Camera:
        """The stated camera without distortion: what `undone` makes its images to be."""
        return replace(camera, fx=self.zoom * camera.fx, fy=self.zoom * camera.fy)

    def undone(
        self, channels: NDArray[np.float32], wanted: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Channels [C, H, W] of a bent image in 0..1 as the pinhole sees them.

        Of the same size, or twice `wanted` (width, height) if that is less.
        """
        import cv2  # 0.3 s to import

        height, width = channels.shape[1:]
        if wanted is not None:
            width, height = (
                min(side, _KEPT_DETAIL * other)
                for side, other in zip((width, height), wanted, strict=True)
            )
            channels = np.stack(
                [cv2.resize(c, (width, height), interpolation=cv2.INTER_AREA) for c in channels]
            )
        columns, rows = np.meshgrid(
            (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        )
        x, y = self.bent(*self._rays(columns, rows, self.zoom))
        across, down = (x * width - 0.5).astype(np.float32), (y * height - 0.5).astype(np.float32)
        straight = [
            cv2.remap(channel, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            for channel in channels
        ]
        return np.stack(straight).clip(0.0, 1.0)

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any] | None) -> "Distortion | None":
        """What a model folder keeps; None where it keeps none.

        Raises KeyError, TypeError or ValueError when it is damaged.
        """
        if values is None:
            return None
        parts = {name: tuple(values[name]) for name in ("radial", "divisor", *_PAIRS)}
        flat = {f"{name} {n}": v for name, part in parts.items() for n, v in enumerate(part)}
        check_numbers(flat, dict.fromkeys(flat, (-_MOST, _MOST)))
        check_numbers(values, {"zoom": _ZOOMS})
        if any(len(parts[name]) != 2 for name in _PAIRS) or min(parts["focal"]) <= 0:
            raise ValueError("it holds a lens that is none")
        return Distortion(**parts, zoom=values["zoom"])

    def _rays(self, column: Values, row: Values, zoom: float) -> tuple[Values, Values]:
        """Rays (x, y, 1) of the pinhole through places in shares of its image."""
        x = (column - self.centre[0]) / (zoom * self.focal[0])
        return x, (row - self.centre[1]) / (zoom * self.focal[1])

    def bent(self, x: Values, y: Values) -> tuple[Values, Values]:
        """Where rays (x, y, 1) meet the bent image, in shares of its width and height."""
        squared = x * x + y * y
        factor = self.factor(squared)
        p1, p2 = self.tangential
        bent_x = x * factor + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
        bent_y = y * factor + p1 * (squared + 2 * y * y) + 2 * p2 * x * y
        return (
            bent_x * self.focal[0] + self.centre[0],
            bent_y * self.focal[1] + self.centre[1],
        )

    def factor(self, squared: Values) -> Values:
        above = np.polynomial.polynomial.polyval(squared, (1.0, *self.radial))
        below = np.polynomial.polynomial.polyval(squared, (1.0, *self.divisor))
        return np.asarray(above / np.where(below == 0, np.inf, below), np.float64)

    def _border(self, zoom: float) -> tuple[Values, Values]:
        """Rays through the border of the pinhole's image."""
        along = np.linspace(0.0, 1.0, _BORDER)
        near, far = np.zeros(_BORDER), np.ones(_BORDER)
        columns = np.concatenate([along, along, near, far])
        return self._rays(columns, np.concatenate([near, far, along, along]), zoom)

    def _is_within(self, zoom: float) -> bool:
        """Whether the pinhole sees nothing but the bent image."""
        places = np.stack(self.bent(*self._border(zoom)))
        return bool(((places >= -_SLACK) & (places <= 1 + _SLACK)).all())

    def _widest(self) -> float | None:
        """The smallest zoom at which it does; None where there is none."""
        low, high = _ZOOMS
        if not self._is_within(high):
            return None
        for _ in range(_STEPS):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self._is_within(middle) else (middle, high)
        return high

    def _folds(self, zoom: float) -> bool:
        """Whether a ray farther from the axis does not meet the image farther out."""
        x, y = self._border(zoom)
        radii = np.linspace(0.0, float(np.sqrt(x * x + y * y).max()), _RADII)
        return not bool((np.diff(radii * self.factor(radii**2)) > 0).all())
