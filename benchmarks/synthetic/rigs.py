"""Where images are taken from: the sphere, circles, a gap, the upper half, a turntable."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .cameras import Pose, looking

Rig = Literal["sphere", "random", "circles", "gap", "upper", "turntable"]
ABOVE: tuple[Rig, ...] = ("upper", "turntable")  # those that never look from below

_TRAIN = (3.6, 4.1), 8.0  # world units, largest roll in degrees, as in the bundled class
_QUERY = (3.65, 4.05), 7.0
_FIXED = (3.85, 3.85), 0.0
_CIRCLES = (-60.0, -36.0, -12.0, 12.0, 36.0, 60.0)  # degrees of elevation
_GAP = 60.0  # degrees from the x axis
_LOWEST, _LOWEST_QUERY = 14.0, 18.0  # degrees of elevation of the upper half
_TURNTABLE = 28.0  # degrees of elevation

Direction = NDArray[np.float64]  # [3], unit vector from the object to the camera


def train_pose(index: int, count: int, random: np.random.Generator, rig: Rig = "sphere") -> Pose:
    """World-to-camera of one of `count` train views."""
    distances, roll = _FIXED if rig in ("circles", "turntable") else _TRAIN
    return looking(_TRAIN_DIRECTIONS[rig](index, count, random), distances, roll, random)


def query_pose(random: np.random.Generator, rig: Rig = "sphere") -> Pose:
    """World-to-camera of a query: anywhere on the sphere, or where the rig can stand."""
    if rig == "turntable":
        direction = _from_angles(random.uniform(0, 2 * math.pi), math.radians(_TURNTABLE))
        return looking(direction, *_FIXED, random)
    direction = _by_chance(random)
    while rig == "upper" and direction[2] < math.sin(math.radians(_LOWEST_QUERY)):
        direction = _by_chance(random)
    return looking(direction, *_QUERY, random)


def _sphere(index: int, count: int, random: np.random.Generator) -> Direction:
    """A spiral: spread evenly."""
    return _on_spiral(index, 1 - (2 * index + 1) / count)


def _random(index: int, count: int, random: np.random.Generator) -> Direction:
    return _by_chance(random)


def _circles(index: int, count: int, random: np.random.Generator) -> Direction:
    """Six circles of latitude, as many views on each as its length allows, at equal steps."""
    lengths = np.cos(np.radians(_CIRCLES))
    ends = np.round(np.cumsum(lengths) / lengths.sum() * count).astype(int)
    circle = int(np.searchsorted(ends, index, side="right"))
    first = int(ends[circle - 1]) if circle else 0
    azimuth = 2 * math.pi * (index - first) / max(1, int(ends[circle]) - first)
    return _from_angles(azimuth, math.radians(_CIRCLES[circle]))


def _gap(index: int, count: int, random: np.random.Generator) -> Direction:
    """Evenly over the sphere without a cap of _GAP degrees around x."""
    along = 1 - (2 * index + 1) / count  # -1 .. 1
    lowest, highest = -1.0, math.cos(math.radians(_GAP))
    turned = _on_spiral(index, lowest + (highest - lowest) * (along + 1) / 2)
    return np.array([turned[2], turned[0], turned[1]])


def _upper(index: int, count: int, random: np.random.Generator) -> Direction:
    lowest = math.sin(math.radians(_LOWEST))
    return _on_spiral(index, lowest + (1 - lowest) * (1 - (2 * index + 1) / (2 * count)))


def _turntable(index: int, count: int, random: np.random.Generator) -> Direction:
    return _from_angles(2 * math.pi * index / count, math.radians(_TURNTABLE))


def _on_spiral(index: int, height: float) -> Direction:
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = math.sqrt(1 - height**2)
    return np.array([radius * math.cos(angle), radius * math.sin(angle), height])


def _from_angles(azimuth: float, elevation: float) -> Direction:
    flat = math.cos(elevation)
    return np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])


def _by_chance(random: np.random.Generator) -> Direction:
    direction = random.normal(size=3)
    return direction / np.linalg.norm(direction)


_TRAIN_DIRECTIONS: dict[Rig, Callable[[int, int, np.random.Generator], Direction]] = {
    "sphere": _sphere, "random": _random, "circles": _circles,
    "gap": _gap, "upper": _upper, "turntable": _turntable,
}  # fmt: skip
