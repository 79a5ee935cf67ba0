"""From which directions the object was photographed, and which are missing, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scene import InputError

from .geometry import Array

_ONE_SIDE = 75.0  # degrees between the two photographs farthest apart: less shows one side only
_GAP = 35.0  # degrees of azimuth without a photograph that are named
_BELOW, _ABOVE = -60.0, 70.0  # degrees of elevation: what lies beyond is named if it is missing


@dataclass(frozen=True)
class Coverage:
    """Directions from the object to the cameras, in degrees."""

    names: tuple[str, ...]
    azimuths: Array  # [V], 0 to 360, about the up axis
    elevations: Array  # [V], -90 to 90
    gaps: tuple[str, ...]  # one sentence each


def coverage(names: Sequence[str], centres: Array, middle: Array) -> Coverage:
    """Directions of cameras at centres [V, 3] from the object's middle [3], z upwards.

    Raises:
        InputError: all photographs are taken from one side.
    """
    directions = centres - middle
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    widest = float(np.degrees(np.arccos(np.clip(directions @ directions.T, -1, 1)).max()))
    if widest < _ONE_SIDE:
        raise InputError(
            f"All photographs lie within {widest:.0f} degrees, so only one side of the object is "
            "seen: walk all around it, in two or three rings, and take some from above."
        )
    azimuths = np.degrees(np.arctan2(directions[:, 1], directions[:, 0])) % 360
    elevations = np.degrees(np.arcsin(np.clip(directions[:, 2], -1, 1)))
    gaps = (*_around(names, azimuths), *_rings(elevations))
    return Coverage(tuple(names), azimuths, elevations, gaps)


def _around(names: Sequence[str], azimuths: Array) -> list[str]:
    """Stretches around the object without a photograph."""
    order = np.argsort(azimuths)
    steps = np.diff(np.append(azimuths[order], azimuths[order[0]] + 360))
    sentences = []
    for place in np.argsort(-steps):
        if steps[place] <= _GAP:
            break
        first, second = names[order[place]], names[order[(place + 1) % len(order)]]
        sentences.append(
            f"{steps[place]:.0f} degrees around the object without a photograph, between {first} "
            f"and {second}"
        )
    return sentences


def _rings(elevations: Array) -> list[str]:
    """Heights from which there is nothing."""
    lowest, highest = float(elevations.min()), float(elevations.max())
    sentences = []
    if lowest > _BELOW:
        sentences.append(f"nothing from below {lowest:.0f} degrees of elevation")
    if highest < _ABOVE:
        sentences.append(f"nothing from above {highest:.0f} degrees of elevation")
    return sentences
