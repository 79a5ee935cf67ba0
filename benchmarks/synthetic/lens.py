"""Another lens for the queries: focal length and radial distortion, both known exactly."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from scene import InputError

from .cameras import ANGLE
from .shapes import Array

_STEPS = 20  # of Newton's iteration


@dataclass(frozen=True)
class Lens:
    """OpenCV's radial model: a ray (x, y, 1) meets the image at (x, y) (1 + k1 r^2 + k2 r^4)."""

    focal: float = 1.0  # times that of the train views
    k1: float = 0.0
    k2: float = 0.0
    fine: int = 2  # samples per pixel and axis where an image is distorted

    def check(self, option: str) -> None:
        """Refuses a lens that folds the image over.

        Raises:
            InputError: no positive focal length, or too much distortion.
        """
        if self.focal <= 0:
            raise InputError(f"query_focal is {self.focal}: choose a number above 0.")
        corner = self._edge * math.sqrt(2)
        radii = np.linspace(0, 1.5 * corner, 200)
        slopes = 1 + 3 * self.k1 * radii**2 + 5 * self.k2 * radii**4
        if (slopes < 0.2).any() or float(self._factor(radii[-1] ** 2)) * radii[-1] < corner:
            raise InputError(
                f"{option} {self.k1} {self.k2} folds the image over: choose smaller ones."
            )

    @property
    def angle(self) -> float:
        """Field of view of the rendering that holds all that the lens shows, radians."""
        return 2 * math.atan(self._edge * self._widening)

    def rendered_size(self, size: int) -> int:
        """Pixels of that rendering for an image of `size` pixels."""
        return size if self.is_straight else math.ceil(self.fine * size * self._widening)

    def image(self, rendered: Array, size: int) -> Array:
        """The image [size, size, ...] that the lens makes of a rendering [N, N, ...]."""
        if self.is_straight:
            return rendered
        rows, columns = self._sampled(size, len(rendered))
        planes = np.atleast_3d(rendered)
        fine = [
            map_coordinates(planes[..., c], (rows, columns), order=1, mode="nearest")
            for c in range(planes.shape[2])
        ]
        blocks = np.stack(fine, axis=-1).reshape(size, self.fine, size, self.fine, -1)
        return np.asarray(blocks.mean(axis=(1, 3)), np.float32).reshape(
            size, size, *rendered.shape[2:]
        )

    def intrinsics(self, size: int) -> dict[str, Any]:
        """The camera as nerfstudio writes it: pixels, principal point, k1, k2."""
        focal = 0.5 * size / self._edge
        return {
            "camera_model": "OPENCV",
            "fl_x": focal,
            "fl_y": focal,
            "cx": 0.5 * size,
            "cy": 0.5 * size,
            "w": size,
            "h": size,
            "k1": self.k1,
            "k2": self.k2,
        }

    @property
    def is_straight(self) -> bool:
        """Whether it distorts nothing."""
        return self.k1 == 0 and self.k2 == 0

    @property
    def _edge(self) -> float:
        """Camera coordinate of the image's edge in the middle of a side."""
        return math.tan(0.5 * ANGLE) / self.focal

    @property
    def _widening(self) -> float:
        """How much wider than the image a rendering must be."""
        if self.is_straight:
            return 1.0
        corner = np.array([self._edge * math.sqrt(2)])
        middle = np.array([self._edge])
        reach = max(
            float(self._undistorted(corner)[0]) / math.sqrt(2), float(self._undistorted(middle)[0])
        )
        return 1.02 * reach / self._edge

    def _factor(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 + self.k1 * squared + self.k2 * squared**2

    def _undistorted(self, radii: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radii of the rays that meet the image at these radii: Newton's iteration."""
        found = radii.copy()
        for _ in range(_STEPS):
            error = found * self._factor(found**2) - radii
            found -= error / (1 + 3 * self.k1 * found**2 + 5 * self.k2 * found**4)
        return found

    def _sampled(self, size: int, rendered: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and columns of the rendering at the fine samples of the image."""
        steps = ((np.arange(size * self.fine) + 0.5) / (size * self.fine) * 2 - 1) * self._edge
        x, y = np.meshgrid(steps, steps)
        radii = np.maximum(np.hypot(x, y), 1e-12)
        scale = self._undistorted(radii) / radii / math.tan(0.5 * self.angle)
        return ((y * scale + 1) * rendered - 1) / 2, ((x * scale + 1) * rendered - 1) / 2
