"""Objects of bare metal: a valve without any texture, a flange that is nearly symmetric."""

import math

import numpy as np

from .builder import ALONG_X, ALONG_Y, UP, Builder, about_z, hole
from .parts import Material
from .shapes import Box, Cylinder, Ellipsoid, prism

STEEL = Material((0.80, 0.80, 0.81), metal=True)
DARK_STEEL = Material((0.50, 0.50, 0.53), metal=True, shine=0.6)
BRASS = Material((0.86, 0.74, 0.48), metal=True)
COPPER = Material((0.86, 0.60, 0.47), metal=True)


def valve(b: Builder) -> None:
    """A pipe with two hexagonal ends, a branch, a spindle and a lever; nothing printed on it."""
    radius = b.between(0.2, 0.26)
    body = (STEEL, BRASS, COPPER)[int(b.random.integers(3))]
    b.add(Cylinder(radius, 0.62), (0, 0, 0), body, ALONG_X, holes=[hole((0, 0, 0), 0.14, ALONG_X)])
    b.add(Ellipsoid((0.36, 0.32, 0.32)), (0, 0, 0), body)
    for side in (-1, 1):
        bore = hole((0.7 * side, 0, 0), 0.14, ALONG_X, depth=0.3)
        b.add(prism(6, 0.29, 0.11), (0.62 * side, 0, 0), STEEL, ALONG_X, holes=[bore])
        for x in (0.8, 0.86, 0.92):  # thread
            thread = hole((x * side, 0, 0), 0.14, ALONG_X, depth=0.3)
            b.add(Cylinder(0.2, 0.018), (x * side, 0, 0), DARK_STEEL, ALONG_X, holes=[thread])
        b.add(
            Cylinder(0.18, 0.16),
            (0.84 * side, 0, 0),
            body,
            ALONG_X,
            holes=[hole((0.84 * side, 0, 0), 0.14, ALONG_X, depth=0.3)],
        )
    b.rod((0, 0, 0.25), (0, 0, 0.5), 0.13, body)
    b.add(prism(6, 0.16, 0.06), (0, 0, 0.46), BRASS)
    b.rod((0, 0, 0.5), (0, 0, 0.68), 0.05, DARK_STEEL)
    lever = about_z(b.between(-0.9, 0.9))
    tip = list(lever @ np.array([0.34, 0.0, 0.0]) + np.array([0.0, 0.0, 0.66]))
    b.add(Box((0.42, 0.06, 0.02)), tip, STEEL, lever)
    end = lever @ np.array([0.68, 0.0, 0.0]) + np.array([0.0, 0.0, 0.66])
    b.add(Ellipsoid((0.12, 0.075, 0.04)), list(end), DARK_STEEL, lever)
    b.add(prism(6, 0.07, 0.04), (0, 0, 0.71), DARK_STEEL)
    b.rod((0, 0.2, -0.1), (0, 0.62, -0.1), 0.1, body)  # branch
    b.add(prism(6, 0.15, 0.05), (0, 0.55, -0.1), BRASS, ALONG_Y)
    b.add(Cylinder(0.1, 0.05), (0, 0, -0.34), body)
    b.add(prism(4, 0.06, 0.05), (0, 0, -0.42), DARK_STEEL)
    b.bolt((0.2, -0.3, 0.05), 0.05, DARK_STEEL, -ALONG_Y @ np.diag([1.0, -1.0, 1.0]))
    b.bolt((-0.2, -0.3, 0.05), 0.05, DARK_STEEL, -ALONG_Y @ np.diag([1.0, -1.0, 1.0]))


def flange(b: Builder) -> None:
    """A disc with bolts and ribs at equal angles: only a key and one bolt's colour tell them."""
    count = int(b.random.integers(6, 9))
    disc, hub = b.paint(0), b.paint(1)
    angles = [2 * math.pi * i / count for i in range(count)]
    holes = [
        hole((0.52 * math.cos(a + math.pi / count), 0.52 * math.sin(a + math.pi / count), 0), 0.06)
        for a in angles
    ]
    b.add(Cylinder(0.95, 0.08), (0, 0, 0), disc, holes=[*holes, hole((0, 0, 0), 0.16)])
    b.add(Cylinder(0.98, 0.03), (0, 0, -0.08), b.black, holes=[hole((0, 0, 0), 0.8)])
    b.add(Cylinder(0.34, 0.26), (0, 0, 0.3), hub, holes=[hole((0, 0, 0.4), 0.16)])
    b.add(Cylinder(0.38, 0.05), (0, 0, 0.52), STEEL, holes=[hole((0, 0, 0.5), 0.16)])
    b.add(Cylinder(0.3, 0.14), (0, 0, -0.2), hub, holes=[hole((0, 0, -0.2), 0.16)])
    for number, angle in enumerate(angles):
        at = (0.76 * math.cos(angle), 0.76 * math.sin(angle), 0.1)
        b.bolt(at, 0.085, b.paint(2) if number == 0 else STEEL, UP)
        b.add(Cylinder(0.07, 0.04), (at[0], at[1], -0.12), STEEL)
        turned = about_z(angle)
        b.add(Box((0.16, 0.03, 0.11)), list(turned @ np.array([0.46, 0, 0.17])), disc, turned)
    b.add(Box((0.08, 0.05, 0.05)), (0.95, 0, 0.06), b.black)  # key
