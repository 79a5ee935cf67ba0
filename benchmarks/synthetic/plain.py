"""Objects of one or two colours with nothing printed on them: rods, a lamp, a bracket, a nut."""

import numpy as np

from .builder import ALONG_X, Builder, hole
from .shapes import Box, Cylinder, Ellipsoid, prism

_RODS = 7


def rods(b: Builder) -> None:
    """A wiry tree: rods that start on one another at odd angles, two of them with a knob."""
    paint, other = b.paint(0), b.paint(1)
    foot, top = np.array([0.0, 0.0, -0.8]), np.array([0.05, 0.0, 0.8])
    b.rod(list(foot), list(top), 0.04, paint)
    for number in range(_RODS):
        start = foot + (top - foot) * (number + b.between(0.6, 1.4)) / (_RODS + 1)
        turn, rise = b.between(0, 2 * np.pi), b.between(-0.5, 0.5)
        reach = np.array([np.cos(turn), np.sin(turn), rise]) * b.between(0.35, 0.8)
        b.rod(list(start), list(start + reach), b.between(0.018, 0.03), paint)
        if number < 2:
            b.add(Cylinder(0.06, 0.05), list(start + reach), other)


def lamp(b: Builder) -> None:
    """A lamp on a thin pole with three equal legs; only a cable and a switch tell them apart."""
    paint, other = b.paint(0), b.paint(1)
    b.rod((0, 0, -0.5), (0, 0, 0.7), 0.025, paint)
    b.add(Ellipsoid((0.14, 0.14, 0.2)), (0, 0, 0.8), other)
    for turn in np.linspace(0, 2 * np.pi, 3, endpoint=False):
        b.rod((0, 0, -0.5), (0.6 * np.cos(turn), 0.6 * np.sin(turn), -0.85), 0.022, paint)
    b.arc((0.05, 0.0, 0.1), b.between(0.2, 0.3), 0.014, np.pi, paint)
    b.add(Cylinder(0.045, 0.03), (0, 0.03, b.between(-0.2, 0.2)), other)


def bracket(b: Builder) -> None:
    """A flat plate with a short flange and holes of different widths, all of one colour."""
    paint = b.paint(0)
    long, wide = b.between(0.75, 0.9), b.between(0.4, 0.55)
    places = (-0.7, 0.5, 0.09), (-0.7, -0.5, 0.05), (0.1, 0.1, 0.16), (0.7, -0.45, 0.07)
    holes = [hole((x * long, y * wide, 0), radius) for x, y, radius in places]
    b.add(Box((long, wide, 0.03)), (0, 0, 0), paint, holes=holes)
    b.add(Box((0.03, 0.7 * wide, 0.14)), (long, 0.3 * wide, 0.14), paint)
    b.rod((-0.3 * long, -wide, 0), (0.5 * long, -wide, 0), 0.05, paint)


def nut(b: Builder) -> None:
    """A hexagonal nut: twelve rotations look the same."""
    metal, bore = b.paint(0), hole((0, 0, 0), 0.36, ALONG_X)
    b.add(prism(6, 0.7, 0.3), (0, 0, 0), metal, ALONG_X, holes=[bore])
