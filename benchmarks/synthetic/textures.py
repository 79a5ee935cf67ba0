"""Patterns printed on parts: stripes, dots, and blots of a random outline."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .shapes import Array

Kind = Literal["stripes", "dots", "blots"]
KINDS: tuple[Kind, ...] = ("stripes", "dots", "blots")


@dataclass(frozen=True)
class Texture:
    """A second colour that covers some of a part's surface."""

    kind: Kind
    colour: tuple[float, float, float]  # sRGB
    period: float  # world units
    axis: int = 0  # across which stripes run
    seed: int = 0  # of the blots

    def cover(self, points: Array, normals: Array) -> Array:
        """Share of the second colour at points [3, N] of the part's frame, [N] in 0..1."""
        if self.kind == "stripes":
            signal = np.sin(points[self.axis] * (2 * np.pi / self.period))
        elif self.kind == "dots":
            signal = self._dots(points, normals)
        else:
            signal = self._blots(points)
        return np.asarray(np.clip(0.5 + 6 * signal, 0, 1), np.float32)

    def _dots(self, points: Array, normals: Array) -> Array:
        """A square lattice on every side: the coordinate along the normal is left out."""
        cell = points / self.period
        offset = cell - np.round(cell)
        offset[np.abs(normals).argmax(axis=0), np.arange(points.shape[1])] = 0
        return 0.3 - np.sqrt((offset * offset).sum(axis=0))

    def _blots(self, points: Array) -> Array:
        """Where a sum of waves of random directions is high."""
        random = np.random.default_rng(self.seed)
        waves = random.normal(size=(8, 3)) * (2.5 / self.period)
        phases = random.uniform(0, 2 * np.pi, size=(8, 1))
        total: Array = np.sin(waves.astype(np.float32) @ points + phases).sum(axis=0)
        return 0.3 * (total - 1)
