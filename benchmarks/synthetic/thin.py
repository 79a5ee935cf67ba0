"""Thin and long objects: a rack of wire, a screwdriver."""

import math

import numpy as np

from .builder import ALONG_X, Builder
from .metal import DARK_STEEL, STEEL
from .parts import Material
from .shapes import Box, Cylinder, Ellipsoid, prism


def rack(b: Builder) -> None:
    """A basket of wires on four feet: frames, ribs, a handle, hooks and a tag."""
    wire = b.between(0.014, 0.022)
    colour = STEEL if b.random.random() < 0.5 else b.any_paint()
    long, wide, high = b.between(0.75, 0.9), b.between(0.4, 0.5), b.between(0.45, 0.6)
    for z, grow in ((0.0, 0.85), (0.5 * high, 0.93), (high, 1.0)):
        _frame(b, grow * long, grow * wide, z, 1.5 * wire if z == high else wire, colour)
    for x in np.linspace(-0.8, 0.8, int(b.random.integers(6, 9))):
        for side in (-1, 1):  # ribs, narrower at the floor
            foot = (0.85 * x * long, 0.85 * side * wide, 0.0)
            b.rod(foot, (x * long, side * wide, high), wire, colour)
        b.rod((0.85 * x * long, -0.85 * wide, 0), (0.85 * x * long, 0.85 * wide, 0), wire, colour)
    for y in np.linspace(-0.6, 0.6, 4):
        for x in (-1, 1):
            b.rod((0.85 * x * long, y * wide, 0), (x * long, y * wide, high), wire, colour)
    for x in (-0.85, 0.85):
        for y in (-0.85, 0.85):
            b.add(Cylinder(0.05, 0.05), (x * long, y * wide, -0.05), b.black)
            b.add(
                Ellipsoid((0.045, 0.045, 0.045)),
                (x * long / 0.85, y * wide / 0.85, high),
                b.paint(1),
            )
    b.arc((long, 0.0, high), long, 1.3 * wire, math.pi, colour)
    b.rod((-0.16, 0, high + long), (0.16, 0, high + long), 0.05, b.paint(0))
    for x in (-0.4, 0.1, 0.45):
        group = b.rod((x, -wide, high), (x, -wide - 0.14, high - 0.1), wire, colour)
        b.add(
            Ellipsoid((0.035, 0.035, 0.035)), (x, -wide - 0.14, high - 0.1), b.paint(2), group=group
        )
    tag = b.printed(b.white, 0.08)
    b.add(Box((0.13, 0.012, 0.08)), (-0.1, -0.96 * wide, 0.55 * high), tag)


def _frame(b: Builder, x: float, y: float, z: float, wire: float, colour: Material) -> None:
    """A rectangle of four wires."""
    for side in (-1, 1):
        b.rod((-x, side * y, z), (x, side * y, z), wire, colour)
        b.rod((side * x, -y, z), (side * x, y, z), wire, colour)


def screwdriver(b: Builder) -> None:
    """A long grip with grooves and rings, a collar, a shaft, a flat tip."""
    grip, ring = b.paint(0), b.paint(1)
    radius = b.between(0.15, 0.19)
    b.add(prism(6, radius, 0.42), (-0.5, 0, 0), grip, ALONG_X)
    b.add(Ellipsoid((0.14, radius, radius)), (-0.94, 0, 0), grip)
    b.add(Cylinder(0.6 * radius, 0.02), (-1.06, 0, 0), ring, ALONG_X)
    for x in (-0.82, -0.74):
        b.add(Cylinder(1.16 * radius, 0.022), (x, 0, 0), ring, ALONG_X)
    for angle in np.linspace(0, 2 * math.pi, 6, endpoint=False):  # pads of rubber
        y, z = 1.02 * radius * math.cos(angle), 1.02 * radius * math.sin(angle)
        b.add(Ellipsoid((0.24, 0.035, 0.035)), (-0.45, y, z), b.black)
    b.add(Cylinder(0.85 * radius, 0.05), (-0.06, 0, 0), ring, ALONG_X)
    b.add(Cylinder(0.55 * radius, 0.08), (0.06, 0, 0), b.black, ALONG_X)
    b.rod((0.1, 0, 0), (0.95, 0, 0), 0.05, STEEL)
    b.add(prism(6, 0.075, 0.05), (0.2, 0, 0), DARK_STEEL, ALONG_X)
    b.add(Box((0.1, 0.07, 0.016)), (1.0, 0, 0), DARK_STEEL)
    b.add(Cylinder(0.052, 0.03), (0.5, 0, 0), b.paint(2), ALONG_X)
    b.add(Box((0.12, 0.05, 0.02)), (-0.45, 0, 1.0 * radius), b.printed(b.white, 0.05))
