"""Templates laid onto an image: which, how they are turned, how large, where."""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scene import Camera
from scene.se3 import twist_exp

from .gradient_templates import GradientTemplates
from .gradients import FULL, Bytes, Whole
from .hypotheses import facing

Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Placements:
    """Arrays of one shape."""

    views: Whole  # of the templates
    rolls: Reals  # radians, from x towards y
    scales: Reals  # times the size of the template
    x: Reals  # of the object's centre, pixels
    y: Reals

    def __len__(self) -> int:
        return len(self.views)

    def at(self, chosen: Whole | tuple[Whole, ...]) -> "Placements":
        """Those with these indices."""
        return Placements(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def poses(self, templates: GradientTemplates, camera: Camera) -> Tensor:
        """World_to_camera [M, 4, 4] float64 of an image in which `camera` sees them so."""
        zero = torch.zeros(len(self), dtype=torch.float64)
        rolls = torch.from_numpy(self.rolls)
        twists = torch.stack([zero, zero, rolls, zero, zero, zero], dim=-1)
        poses = twist_exp(twists) @ templates.poses[torch.from_numpy(self.views)]
        size = torch.from_numpy(self.scales) * templates.focal / math.sqrt(camera.fx * camera.fy)
        poses[:, 2, 3] += templates.distance * (1 / size - 1)
        rays = np.stack([(self.x - camera.cx) / camera.fx, (self.y - camera.cy) / camera.fy], -1)
        return facing(torch.from_numpy(rays)).transpose(1, 2) @ poses


class ScoreMaps:
    """Response maps, read at the points of templates."""

    def __init__(
        self, maps: Bytes, templates: GradientTemplates, margin: int, full: int = FULL
    ) -> None:
        """Of maps [C, H, W], 0..full; up to `margin` pixels outside of them nothing answers."""
        self._templates, self._margin, self._full = templates, margin, full
        around = ((0, 0), (margin, margin), (margin, margin))
        padded = np.pad(maps, around)
        self._shape, self._flat = padded.shape, padded.ravel()

    def scores(self, placements: Placements) -> Reals:
        """Mean response of placements [...] over their points, 0..1."""
        columns, rows = pixels_of(self._templates, placements)
        _, height, width = self._shape
        rows = (rows + self._margin).clip(0, height - 1)
        columns = (columns + self._margin).clip(0, width - 1)
        channels = self._templates.channels(placements.views, placements.rolls)
        responses = self._flat[(channels * height + rows) * width + columns]
        return responses.mean(axis=-1) / self._full


def pixels_of(templates: GradientTemplates, placements: Placements) -> tuple[Whole, Whole]:
    """Columns and rows [..., N] of the points of placements [...]."""
    points = templates.points[placements.views].astype(np.float64)  # [..., N, 2]
    cosine = (placements.scales * np.cos(placements.rolls))[..., None]
    sine = (placements.scales * np.sin(placements.rolls))[..., None]
    x = cosine * points[..., 0] - sine * points[..., 1] + placements.x[..., None]
    y = sine * points[..., 0] + cosine * points[..., 1] + placements.y[..., None]
    return np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
