"""What stands around the object: nothing, an uneven sheet of paper, or a table in a room."""

import math
from typing import Literal

import numpy as np

from preparation.board import PAGE

from .builder import Builder, Point, about_z
from .parts import Assembly, Material, Part
from .shapes import Box, Cylinder, Ellipsoid, Shape, prism
from .textures import Kind, Texture

Surroundings = Literal["plain", "uneven", "room"]

_UNEVEN = 0.9  # the sheet's darkest places, times its colour
_WALL, _FURNITURE = 7.5, (4.9, 6.6)  # world units from the object; cameras stand nearer
_CLUTTER = (1.45, 1.85)
_FLOOR = 1.7  # world units below the table's top
MM_PER_UNIT, _PAPER = 100.0, 0.001  # of the board; half its thickness in world units
_HIGH = 4.0  # walls, world units above the floor

Colour = tuple[float, float, float]


def scenery(
    kind: Surroundings,
    assembly: Assembly,
    background: Colour,
    random: np.random.Generator,
    board: bool = False,
) -> tuple[Part, ...]:
    """The parts around an object, which stands on the sheet or on the table.

    Args:
        background: Colour of the sheet, sRGB.
        board: Whether the printed board lies under the object.
    """
    if kind == "plain":
        return ()
    corners = np.concatenate([part.corners() for part in assembly.parts], axis=1)
    ground = float(corners[2].min())
    builder = Builder(random)
    if kind == "uneven":
        _sheet(builder, ground, background)
    else:
        _room(builder, ground)
    if board:
        width, height = (side / MM_PER_UNIT for side in PAGE)
        printed = Material((1.0, 1.0, 1.0), Texture("board", (0.02, 0.02, 0.02), width), shine=0.0)
        page = Box((width / 2, height / 2, _PAPER))
        builder.add(page, (0, 0, ground + _PAPER), printed, about_z(0.3), casts=False)
    return tuple(builder.parts)


def _sheet(b: Builder, ground: float, background: Colour) -> None:
    red, green, blue = (_UNEVEN * channel for channel in background)
    shade = Texture("shade", (red, green, blue), 4.0, seed=int(b.random.integers(1 << 30)))
    material = Material(background, shade, shine=0.0)
    b.add(Box((60.0, 60.0, 0.05)), (0, 0, ground - 0.05), material, casts=False)


def _room(b: Builder, ground: float) -> None:
    table = _matte(b, "wood", 0.12, 0.3)
    turn = about_z(b.between(0, math.pi))
    b.add(Box((2.5, 2.1, 0.05)), (0, 0, ground - 0.05), table, turn, casts=False)
    floor = ground - _FLOOR
    b.add(Box((9, 9, 0.05)), (0, 0, floor - 0.05), _matte(b, "dots", 0.9, 0.1), casts=False)
    for side in range(4):
        _wall(b, floor, about_z(0.5 * math.pi * side))
    for angle in np.linspace(0, 2 * math.pi, 11, endpoint=False):
        high = b.between(0.5, 1.6)
        radius = b.between(*_FURNITURE)
        at = _around(float(angle) + b.between(-0.2, 0.2), radius, floor + high)
        wide = b.between(0.3, 0.7)
        b.add(_body(b, wide, high), at, _any(b), about_z(b.between(0, 3)), casts=False)
    for angle in np.linspace(0, 2 * math.pi, 8, endpoint=False):
        high = b.between(0.05, 0.15)
        place = float(angle) + b.between(-0.25, 0.25)
        at = _around(place, b.between(*_CLUTTER), ground + high)
        b.add(_body(b, b.between(0.07, 0.2), high), at, _any(b), about_z(b.between(0, 3)))


def _wall(b: Builder, floor: float, turn: np.ndarray) -> None:
    """A papered wall with two posters and a shelf of things."""
    papers: tuple[Kind, ...] = ("stripes", "blots", "shade")
    paper = papers[int(b.random.integers(3))]
    middle = list(turn @ np.array([_WALL, 0, floor + _HIGH / 2]))
    wall = Box((0.05, _WALL, _HIGH / 2))
    b.add(wall, middle, _matte(b, paper, b.between(0.6, 1.5), 0.0, axis=1), turn, casts=False)
    for side in (-1, 1):
        y, z = side * b.between(1.5, 5.0), floor + b.between(1.6, 3.0)
        poster = Box((0.02, b.between(0.4, 0.9), b.between(0.3, 0.8)))
        b.add(poster, list(turn @ np.array([_WALL - 0.07, y, z])), _any(b), turn, casts=False)
    for y in np.linspace(-1.0, 1.0, 6):
        high = b.between(0.15, 0.4)
        at = list(turn @ np.array([_WALL - 0.3, float(y), floor + 1.5 + high]))
        b.add(_body(b, 0.15, high), at, _any(b), turn, casts=False)
    shelf = list(turn @ np.array([_WALL - 0.3, 0, floor + 1.45]))
    b.add(Box((0.25, 1.3, 0.04)), shelf, _matte(b, "wood", 0.2, 0.1), turn, casts=False)


def _body(b: Builder, wide: float, high: float) -> Shape:
    """A box, a cylinder, a prism or an ellipsoid."""
    choice = int(b.random.integers(4))
    if choice == 0:
        return Box((wide, b.between(0.5, 1.0) * wide, high))
    if choice == 1:
        return Cylinder(wide, high)
    if choice == 2:
        return prism(int(b.random.integers(3, 8)), 0.8 * wide, high)
    return Ellipsoid((wide, wide, high))


def _any(b: Builder) -> Material:
    """A colour by chance, printed half of the time."""
    material = Material(b.any_colour(), shine=b.between(0.0, 0.8))
    return b.printed(material, b.between(0.1, 0.5)) if b.random.random() < 0.5 else material


def _matte(b: Builder, kind: Kind, period: float, shine: float, axis: int = 0) -> Material:
    """A dull material in two shades of one colour."""
    tint = np.array([1.0, 0.78, 0.55]) if kind == "wood" else b.random.uniform(0.6, 1, size=3)
    red, green, blue = (b.between(0.4, 0.9) * tint).tolist()
    dark = b.between(0.5, 0.75)
    seed = int(b.random.integers(1 << 30))
    second = dark * red, dark * green, dark * blue
    return Material((red, green, blue), Texture(kind, second, period, axis, seed), shine)


def _around(angle: float, radius: float, height: float) -> Point:
    return (radius * math.cos(angle), radius * math.sin(angle), height)
