"""From which directions the object was seen, as a map: azimuth to the right, elevation upwards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scene import Camera

_CELL = 10  # degrees
_POINTS = 2000  # directions, evenly spread, of which shares are counted
_NEAR, _FAR = 10.0, 45.0  # degrees to the nearest train view: well covered, and not at all
_GOLDEN = np.pi * (3.0 - np.sqrt(5.0))


@dataclass(frozen=True)
class DirectionMap:
    """Places are degrees: azimuth 0 to 360, elevation -90 to 90, about the capture's z axis."""

    train: list[tuple[float, float]]
    held_out: list[tuple[float, float]]
    cells: list[tuple[float, float, float]]  # corner, and 0 (covered) to 1 (no train view is near)
    size: int  # of a cell, degrees
    sentence: str


def direction_map(
    centre: Tensor,  # [3] of the object
    train: Sequence[Camera],
    held_out: Sequence[Camera],
) -> DirectionMap:
    """Where train and held-out cameras stand, and which directions no train view covers."""
    seen, tried = (_directions(centre, cameras) for cameras in (train, held_out))
    angles = _to_nearest(_even(_POINTS), seen)
    corners = [
        (float(azimuth), float(elevation))
        for elevation in range(-90, 90, _CELL) for azimuth in range(0, 360, _CELL)
    ]  # fmt: skip
    middles = np.array(corners) + _CELL / 2
    missing = ((_to_nearest(_unit(middles), seen) - _NEAR) / (_FAR - _NEAR)).clip(0, 1)
    half, most, far = np.quantile(angles, [0.5, 0.95, 1.0])
    return DirectionMap(
        _places(seen), _places(tried),
        [(*corner, float(m)) for corner, m in zip(corners, missing, strict=True)], _CELL,
        f"Half of all directions are within {half:.0f} degrees of a train view, 95 % within "
        f"{most:.0f}; the farthest is {far:.0f} degrees away.",
    )  # fmt: skip


def _directions(centre: Tensor, cameras: Sequence[Camera]) -> NDArray[np.float64]:
    """Unit vectors from the object to the cameras, [V, 3]."""
    away = np.array([(camera.centre - centre.to(camera.centre)).tolist() for camera in cameras])
    away = away.reshape(-1, 3)
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)


def _places(directions: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Azimuth and elevation of unit vectors, degrees."""
    azimuths = np.degrees(np.arctan2(directions[:, 1], directions[:, 0])) % 360
    elevations = np.degrees(np.arcsin(directions[:, 2].clip(-1, 1)))
    return list(zip(azimuths.tolist(), elevations.tolist(), strict=True))


def _unit(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors of azimuths and elevations [P, 2], degrees."""
    azimuth, elevation = np.radians(places).T
    flat = np.cos(elevation)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)


def _even(count: int) -> NDArray[np.float64]:
    """Evenly spread unit vectors, [count, 3]: the Fibonacci lattice."""
    heights = 1 - (2 * np.arange(count) + 1) / count
    flat, turn = np.sqrt(1 - heights**2), _GOLDEN * np.arange(count)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), heights], axis=1)


def _to_nearest(points: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle from each of the points [P, 3] to the nearest of the directions [V, 3], degrees."""
    return np.degrees(np.arccos((points @ seen.T).max(axis=1).clip(-1, 1)))
