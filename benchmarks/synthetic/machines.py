"""Objects of metal and plastic parts: a pump on its base, wheels between two plates."""

import math

import numpy as np

from .builder import ALONG_X, ALONG_Y, UP, Builder, about_z, hole
from .parts import Material
from .shapes import Box, Cylinder, Ellipsoid, prism


def pump(b: Builder) -> None:
    """Motor with fins, shaft, housing with bolted flanges, pipes, control box."""
    corners = [(x, y) for x in (-0.85, 0.85) for y in (-0.38, 0.38)]
    holes = [hole((x, y * 0.55, 0), 0.05) for x, y in corners]
    b.add(Box((1.0, 0.48, 0.05)), (0, 0, 0), b.paint(0), holes=holes)
    for x, y in corners:
        b.bolt((x, y, 0.08), 0.055, b.paint(1), UP)
    axis, radius = 0.42, b.between(0.24, 0.3)
    b.add(Cylinder(radius, 0.36), (-0.5, 0, axis), b.paint(2), ALONG_X)
    for x in np.linspace(-0.78, -0.26, int(b.random.integers(4, 7))):
        b.add(Cylinder(radius + 0.045, 0.018), (float(x), 0, axis), b.paint(2), ALONG_X)
    b.add(Cylinder(0.7 * radius, 0.05), (-0.9, 0, axis), b.black, ALONG_X)
    for x in (-0.7, -0.3):
        b.add(Box((0.05, 0.22, 0.1)), (x, 0, 0.13), b.black)
    b.rod((-0.2, 0, axis), (0.3, 0, axis), 0.045, b.white)
    b.add(prism(6, 0.1, 0.06), (0.03, 0, axis), b.paint(1), ALONG_X)
    bore = hole((0.5, 0, axis), 0.12, ALONG_Y)
    b.add(Cylinder(0.3, 0.16), (0.5, 0, axis), b.paint(3), ALONG_Y, holes=[bore])
    b.add(Box((0.12, 0.12, 0.08)), (0.5, 0, 0.12), b.black)
    for angle in np.linspace(0, 2 * math.pi, 6, endpoint=False):
        x, z = 0.5 + 0.23 * math.cos(angle), axis + 0.23 * math.sin(angle)
        b.bolt((x, -0.17, z), 0.035, b.paint(1), -ALONG_Y @ np.diag([1.0, -1.0, 1.0]))
    b.rod((0.5, 0, axis + 0.2), (0.5, 0, 1.0), 0.1, b.paint(3))
    b.add(
        Cylinder(0.17, 0.03),
        (0.5, 0, 0.97),
        b.paint(3),
        holes=[hole((0.5, 0, 1.0), 0.065, depth=0.05)],
    )
    label = b.printed(b.white, b.between(0.08, 0.14))
    b.add(Box((0.16, 0.1, 0.13)), (-0.5, 0, axis + radius + 0.1), label)
    b.add(Ellipsoid((0.035, 0.035, 0.035)), (-0.42, -0.1, axis + radius + 0.14), b.any_paint())
    b.rod((-0.36, 0.03, axis + radius + 0.1), (0.38, 0.1, axis + 0.25), 0.02, b.black)
    b.add(Box((0.5, 0.012, 0.05)), (0, -0.485, 0.0), b.printed(b.paint(1), 0.12))
    _handwheel(b, (0.5, 0.3, axis))
    for x in (-0.62, 0.7):  # underneath: feet and a type plate
        b.add(Box((0.07, 0.4, 0.04)), (x, 0, -0.085), b.black)
    b.add(Box((0.2, 0.13, 0.012)), (-0.2, -0.15, -0.055), b.printed(b.white, 0.1))
    b.add(Cylinder(0.09, 0.04), (0.3, 0.2, -0.08), b.paint(1))


def _handwheel(b: Builder, at: tuple[float, float, float]) -> None:
    """A ring with four spokes, its axle along y."""
    colour = b.any_paint()
    ring = hole(at, 0.155, ALONG_Y, depth=0.5)
    group = b.add(Cylinder(0.19, 0.02), at, colour, ALONG_Y, holes=[ring])
    for angle in (0.4, 0.4 + math.pi / 2):
        spoke = ALONG_Y @ about_z(angle)
        b.add(Box((0.16, 0.014, 0.012)), at, colour, spoke, group)
    b.add(Cylinder(0.03, 0.12), (at[0], at[1] - 0.06, at[2]), b.black, ALONG_Y, group)


def gears(b: Builder) -> None:
    """Two plates joined by rods, toothed wheels between them, nuts outside."""
    spread, gap = b.between(0.75, 0.9), b.between(0.2, 0.28)
    plate = [(-spread, -0.35), (-spread, 0.35), (spread, -0.35), (spread, 0.35)]
    windows = [hole((x, 0, z), 0.13, ALONG_Y) for x in (-0.42, 0.42) for z in (0.0,)]
    for y, colour in ((-gap, b.paint(0)), (gap, b.printed(b.paint(1), b.between(0.2, 0.35)))):
        small = [hole((x, 0, z), 0.04, ALONG_Y) for x in (0.0,) for z in (-0.36, 0.36)]
        b.add(Box((spread + 0.12, 0.03, 0.47)), (0, y, 0), colour, holes=[*windows, *small])
    for x, z in plate:
        b.rod((x, -gap - 0.14, z), (x, gap + 0.14, z), 0.04, b.white)
        for y in (-gap - 0.06, gap + 0.06):
            b.add(prism(6, 0.075, 0.03), (x, y, z), b.black, ALONG_Y)
    for index, (x, radius) in enumerate(((-0.42, 0.36), (0.2, 0.25), (0.58, 0.18))):
        _gear(b, (x, b.between(-0.05, 0.05), 0.05 * index), radius, b.paint(index + 1))
    b.brick((-0.3, -gap, 0.5), (0.4, gap, 0.62), b.any_paint())
    b.add(Box((0.1, gap + 0.12, 0.05)), (-0.7, 0, -0.52), b.paint(2))
    b.add(Box((0.1, gap + 0.12, 0.05)), (0.7, 0, -0.52), b.paint(2))
    b.rod((-0.5, -gap - 0.05, 0.3), (-0.05, -gap - 0.05, 0.44), 0.025, b.paint(3))
    label = b.printed(b.white, 0.1)
    b.add(Box((0.16, 0.01, 0.1)), (0.05, -gap - 0.04, -0.12), label)
    b.add(Ellipsoid((0.07, 0.07, 0.07)), (-0.05, -gap - 0.05, 0.44), b.black)


def _gear(b: Builder, at: tuple[float, float, float], radius: float, colour: Material) -> None:
    """A wheel with teeth, its axle along y."""
    group = b.add(Cylinder(radius, 0.05), at, colour, ALONG_Y)
    count = int(radius * 40)
    for angle in np.linspace(0, 2 * math.pi, count, endpoint=False):
        turned = ALONG_Y @ about_z(float(angle))
        place = list(np.array(at) + turned @ np.array([radius, 0.0, 0.0]))
        b.add(Box((0.045, 0.03, 0.045)), place, colour, turned, group)
    b.add(Cylinder(0.07, 0.4), at, b.black, ALONG_Y)
