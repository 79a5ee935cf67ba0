"""Where the reflected line of sight points at a lamp, a smooth face flashes as a whole.

Few train views catch the flash of one face, but all faces mirror the same lamps. So what residuals
of all places and views have in common is kept by the direction in which the surface mirrors the
camera: a table over the sphere of how much larger than usual, at their place, they are there.
Lamps may stand still before the object or move with the camera: there is a table for each frame.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Frame = Literal["none", "object", "camera"]
FRAMES: tuple[Frame, ...] = ("none", "object", "camera")

ROWS, COLUMNS = 36, 72  # of latitude and longitude: 5 degrees a cell
_SPREAD = math.radians(4.0)  # of the kernel that smooths the table
_PRIOR = 30.0  # pixels of evidence that a direction is a usual one
_LEAST, _MOST = 0.25, 100.0  # factors believed


def reflected(
    positions: Tensor,  # [N, 3]
    normals: Tensor,  # [N, 3] unit; sign does not matter
    eye: Tensor,  # [..., 3] camera centre
) -> Tensor:
    """Unit directions [..., N, 3] in which mirrors at the positions show the world to the eye."""
    sight = torch.nn.functional.normalize(positions - eye[..., None, :], dim=-1)
    return sight - 2.0 * (sight * normals).sum(dim=-1, keepdim=True) * normals


def cells(
    directions: Tensor,  # [..., 3] unit
) -> Tensor:
    """Number of the table's cell of each direction, [...]."""
    x, y, z = directions.unbind(-1)
    row = ((0.5 + z.clamp(-1.0, 1.0).asin() / math.pi) * ROWS).long().clamp(0, ROWS - 1)
    turn = (torch.atan2(y, x) / (2.0 * math.pi)) % 1.0
    return row * COLUMNS + (turn * COLUMNS).long().clamp(0, COLUMNS - 1)


def centres() -> Tensor:
    """Unit direction of the middle of each cell, [ROWS * COLUMNS, 3]."""
    latitude = (((torch.arange(ROWS) + 0.5) / ROWS) - 0.5) * math.pi
    longitude = (torch.arange(COLUMNS) + 0.5) / COLUMNS * 2.0 * math.pi
    up, turn = torch.meshgrid(latitude, longitude, indexing="ij")
    return torch.stack([up.cos() * turn.cos(), up.cos() * turn.sin(), up.sin()], dim=-1).reshape(
        -1, 3
    )


class SpecularStatistics:
    """Gathers how large residuals are by reflected direction."""

    def __init__(self) -> None:
        self._sums = torch.zeros(ROWS * COLUMNS, dtype=torch.float64)
        self._weights = torch.zeros_like(self._sums)

    def add(
        self,
        directions: Tensor,  # [N, 3] unit
        ratios: Tensor,  # [N] squared residual over the usual one of the place
        weights: Tensor,  # [N] pixels
    ) -> None:
        """Adds what one view shows."""
        index = cells(directions).cpu()
        self._sums.index_add_(0, index, (ratios * weights).cpu().double())
        self._weights.index_add_(0, index, weights.cpu().double())

    def table(self) -> Tensor:
        """Factor of the squared residual for each cell, [ROWS * COLUMNS]; 1 is the usual one.

        Smoothed over neighbouring directions and drawn to the mean where little was seen.
        """
        if not bool((self._weights > 0).any()):
            return torch.ones(ROWS * COLUMNS)
        directions = centres().double()
        kernel = torch.exp((directions @ directions.T - 1.0) / _SPREAD**2)
        sums, weights = kernel @ self._sums, kernel @ self._weights
        mean = self._sums.sum() / self._weights.sum()
        smooth = (sums + _PRIOR * mean) / (weights + _PRIOR)
        usual = smooth[weights > _PRIOR].median() if bool((weights > _PRIOR).any()) else mean
        return (smooth / usual.clamp_min(1e-30)).clamp(_LEAST, _MOST).float()
