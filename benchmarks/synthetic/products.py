"""Things from a shop: a printed tin, a circuit board, a black remote control, a white charger."""

from dataclasses import replace

import numpy as np

from .builder import ALONG_X, ALONG_Y, Builder, hole
from .metal import BRASS, DARK_STEEL, STEEL
from .parts import Material
from .shapes import Box, Cylinder, Ellipsoid, prism, wedge
from .textures import Texture


def _labelled(b: Builder, material: Material, period: float, radius: float = 0.0) -> Material:
    """The material with print on it, in a colour that stands out."""
    ink = b.black.colour if sum(material.colour) > 1.4 else b.white.colour
    seed = int(b.random.integers(1 << 30))
    return replace(material, texture=Texture("print", ink, period, seed=seed, radius=radius))


def tin(b: Builder) -> None:
    """A tin with a label all around, a cap, and two printed boxes beside it."""
    radius, high = b.between(0.36, 0.44), b.between(0.55, 0.7)
    label = _labelled(b, b.paint(0), b.between(0.55, 0.8), radius)
    b.add(Cylinder(radius, high), (0, 0, high), label)
    for z in (0.0, 2 * high):
        b.add(Cylinder(radius + 0.03, 0.03), (0, 0, z), STEEL)
    b.add(Cylinder(0.8 * radius, 0.02), (0, 0, 2 * high + 0.03), _labelled(b, b.white, 0.5))
    b.add(Cylinder(radius + 0.006, 0.06), (0, 0, 0.5 * high), b.paint(1))
    b.add(Cylinder(radius + 0.006, 0.03), (0, 0, 1.7 * high), b.white)
    b.add(Cylinder(0.16, 0.09), (0.08, 0.05, 2 * high + 0.12), b.paint(2))
    b.add(Cylinder(0.18, 0.025), (0.08, 0.05, 2 * high + 0.06), b.black)
    carton = (0.62, 0.1, b.between(0.3, 0.5))
    b.add(Box((0.2, 0.34, carton[2])), (*carton[:2], carton[2]), _labelled(b, b.paint(3), 0.45))
    b.add(Box((0.205, 0.345, 0.05)), (0.62, 0.1, 1.6 * carton[2]), b.paint(1))
    b.add(Box((0.07, 0.12, 0.012)), (0.62, 0.1, 2 * carton[2] + 0.01), b.printed(b.white, 0.06))
    b.add(Box((0.26, 0.2, 0.16)), (-0.1, -0.66, 0.16), _labelled(b, b.white, 0.3))
    b.add(Ellipsoid((0.06, 0.06, 0.02)), (-0.1, -0.66, 0.33), b.paint(2))
    b.add(Box((0.75, 0.66, 0.03)), (0.15, -0.15, -0.06), _labelled(b, b.paint(2), 0.6))


def board(b: Builder) -> None:
    """A flat circuit board: chips, capacitors, resistors, sockets, pins, mounting holes."""
    green = replace(b.black, colour=(0.05, 0.30, 0.16))
    board_ = _labelled(b, green, 0.5)
    corners = [(x, y) for x in (-0.9, 0.9) for y in (-0.56, 0.56)]
    b.add(
        Box((1.0, 0.65, 0.025)),
        (0, 0, 0),
        board_,
        holes=[hole((x, y, 0), 0.05) for x, y in corners],
    )
    for x, y in corners:
        ring = [hole((x, y, 0), 0.05)]
        b.add(Cylinder(0.085, 0.032), (x, y, 0), BRASS, holes=ring)
    for x, y, half in ((-0.25, 0.1, 0.2), (0.35, -0.25, 0.13), (0.4, 0.3, 0.1)):
        group = b.add(Box((half, half, 0.035)), (x, y, 0.06), _labelled(b, b.black, 1.6 * half))
        for step in np.linspace(-0.8, 0.8, 7):
            for side in (-1, 1):
                pin = (x + side * (half + 0.02), y + step * half, 0.035)
                b.add(Box((0.03, 0.012, 0.012)), pin, STEEL, group=group)
    for index in range(5):
        b.add(Cylinder(0.06, 0.1), (-0.8 + 0.15 * index, -0.5, 0.12), b.paint(index % 2))
    for index in range(6):
        at = (0.62 + 0.06 * (index % 2), -0.05 + 0.09 * index, 0.045)
        group = b.add(Cylinder(0.025, 0.05), at, b.printed(b.paint(2), 0.04, 2), ALONG_X)
        b.rod((at[0] - 0.08, at[1], 0.04), (at[0] + 0.08, at[1], 0.04), 0.007, STEEL)
    socket = [hole((0.98, -0.4, 0.12), 0.06, ALONG_X, depth=0.1)]
    b.add(Box((0.14, 0.12, 0.1)), (0.9, -0.3, 0.12), STEEL)
    b.add(Box((0.13, 0.1, 0.08)), (0.85, 0.22, 0.1), b.white, holes=socket)
    for index in range(8):
        b.rod((-0.7 + 0.08 * index, 0.55, -0.06), (-0.7 + 0.08 * index, 0.55, 0.16), 0.014, BRASS)
    b.add(Box((0.34, 0.045, 0.03)), (-0.42, 0.55, 0.05), b.black)
    b.add(Cylinder(0.09, 0.05), (-0.75, 0.05, 0.06), DARK_STEEL)
    b.add(Box((0.1, 0.06, 0.03)), (0.05, 0.5, 0.05), STEEL)


def remote(b: Builder) -> None:
    """Black on black: a long case, buttons of nearly its colour, a dark window."""
    case = Material((0.085, 0.085, 0.09))
    tones = [Material((t, t, t + 0.004), shine=s) for t, s in ((0.05, 0.5), (0.12, 1.0))]
    _case(b, case, Material((0.04, 0.04, 0.045)), tones, Material((0.16, 0.16, 0.165)))


def charger(b: Builder) -> None:
    """White on white: the same kind of case in white plastic."""
    case = Material((0.92, 0.92, 0.91))
    tones = [Material((t, t, t - 0.004), shine=s) for t, s in ((0.88, 0.6), (0.96, 1.0))]
    _case(b, case, Material((0.85, 0.85, 0.85)), tones, Material((0.80, 0.80, 0.80)))


def _case(b: Builder, case: Material, dark: Material, tones: list[Material], ink: Material) -> None:
    """A case with a seam, rows of buttons, a dial, vents and a cable end."""
    wide, high = b.between(0.3, 0.38), b.between(0.12, 0.16)
    b.add(Box((0.82, wide, high)), (0, 0, high), case)
    for x in (-0.82, 0.82):
        b.add(Cylinder(wide, high), (x * 0.97, 0, high), case)
    b.add(Box((0.8, wide + 0.008, 0.012)), (0, 0, high), dark)
    top = 2 * high
    for row in range(4):
        for column in range(3):
            at = (-0.62 + 0.19 * row, (column - 1) * 0.55 * wide, top)
            tone = tones[(row + column) % 2]
            round_ = (row + column) % 3 == 0
            b.add(Cylinder(0.06, 0.035) if round_ else Box((0.065, 0.05, 0.03)), at, tone)
    b.add(Cylinder(0.17, 0.03), (0.42, 0, top), tones[1], holes=[hole((0.42, 0, top), 0.09)])
    b.add(Cylinder(0.07, 0.04), (0.42, 0, top), tones[0])
    seed = int(b.random.integers(1 << 30))
    printed = replace(case, texture=Texture("print", ink.colour, 0.2, seed=seed))
    b.add(Box((0.12, 0.7 * wide, 0.008)), (0.78, 0, top + 0.005), printed)
    b.add(wedge(0.1, 0.6 * wide, 0.06), (0.98, 0, top - 0.02), dark)
    b.add(Box((0.4, 0.7 * wide, 0.01)), (-0.1, 0, -0.008), printed)  # underneath
    for x in (-0.75, 0.75):
        b.add(Cylinder(0.07, 0.03), (x, 0, -0.02), tones[0])
    for x in np.linspace(-0.3, 0.3, 5):
        b.add(Box((0.02, 0.02, 0.05)), (float(x), wide, high), dark)
    b.add(prism(8, 0.07, 0.08), (-1.16, 0, high), dark, ALONG_X)
    b.rod((-1.2, 0, high), (-1.42, b.between(-0.08, 0.08), high), 0.035, tones[1])
    b.add(Cylinder(0.05, 0.03), (0.2, -wide, high), tones[1], ALONG_Y)
