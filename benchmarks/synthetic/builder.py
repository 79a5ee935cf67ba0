"""Puts parts together: colours of one object, bricks with studs, rods, wheels, bolts."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .parts import Cut, Material, Part, Placement
from .shapes import Box, Cylinder, Shape, prism
from .textures import KINDS, Texture

Point = Sequence[float]

UP = np.eye(3)
ALONG_X = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # turns z into x
ALONG_Y = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # turns z into y

PITCH = 0.2  # world units between two studs
_STUD = Cylinder(0.06, 0.035)
_BLACK, _WHITE = (0.10, 0.10, 0.11), (0.93, 0.93, 0.91)
_COLOURS = (
    (0.78, 0.10, 0.10), (0.13, 0.34, 0.66), (0.95, 0.77, 0.15), (0.14, 0.48, 0.23),
    (0.91, 0.48, 0.13), (0.55, 0.56, 0.58), (0.36, 0.37, 0.39), (0.44, 0.26, 0.15),
    (0.82, 0.72, 0.52), (0.30, 0.66, 0.80), (0.50, 0.29, 0.58), (0.62, 0.76, 0.25),
)  # fmt: skip


class Builder:
    """Collects the parts of one object; every random choice comes from one generator."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.parts: list[Part] = []
        self.black, self.white = Material(_BLACK), Material(_WHITE)
        count = int(random.integers(3, 7))
        chosen = random.permutation(len(_COLOURS))[:count]
        self.colours = [Material(_COLOURS[i]) for i in chosen]
        self._groups = 0

    def paint(self, number: int) -> Material:
        """One of the object's colours; the same for the same number."""
        return self.colours[number % len(self.colours)]

    def any_paint(self) -> Material:
        """A colour by chance; black and white are among them."""
        choice = int(self.random.integers(len(self.colours) + 2))
        return [*self.colours, self.black, self.white][choice]

    def any_colour(self) -> tuple[float, float, float]:
        """One of all colours by chance, whatever the object's are."""
        return _COLOURS[int(self.random.integers(len(_COLOURS)))]

    def printed(self, material: Material, period: float, axis: int = 0) -> Material:
        """The material with a pattern of another colour on it."""
        others = [m.colour for m in (*self.colours, self.black, self.white) if m is not material]
        colour = others[int(self.random.integers(len(others)))]
        kind = KINDS[int(self.random.integers(len(KINDS)))]
        seed = int(self.random.integers(1 << 30))
        return replace(material, texture=Texture(kind, colour, period, axis, seed))

    def between(self, low: float, high: float) -> float:
        """A number by chance."""
        return float(self.random.uniform(low, high))

    def add(
        self,
        shape: Shape,
        at: Point,
        material: Material,
        rotation: NDArray[np.float64] = UP,
        group: int | None = None,
        holes: Sequence[Cut] = (),
        casts: bool = True,
    ) -> int:
        """Adds a part and returns its group; a new group unless one is given."""
        if group is None:
            group = self._groups
            self._groups += 1
        place = Placement(rotation, np.array(at, np.float64))
        self.parts.append(Part(shape, place, material, group, tuple(holes), casts))
        return group

    def brick(self, low: Point, high: Point, material: Material, studs: bool = True) -> int:
        """A box between two corners, with studs on its top."""
        half = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
        middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        group = self.add(Box((half[0], half[1], half[2])), middle, material)
        if studs:
            for x in _lattice(low[0], high[0]):
                for y in _lattice(low[1], high[1]):
                    self.add(_STUD, (x, y, high[2] + _STUD.height), material, group=group)
        return group

    def rod(self, start: Point, end: Point, radius: float, material: Material) -> int:
        """A thin cylinder between two points."""
        a, b = np.array(start, np.float64), np.array(end, np.float64)
        length = float(np.linalg.norm(b - a))
        shape = Cylinder(radius, length / 2)
        return self.add(shape, list((a + b) / 2), material, facing((b - a) / length))

    def wheel(self, at: Point, radius: float, width: float, tyre: Material, hub: Material) -> int:
        """A tyre with a hub, its axle along y."""
        group = self.add(Cylinder(radius, width / 2), at, tyre, ALONG_Y)
        return self.add(Cylinder(0.5 * radius, 0.6 * width), at, hub, ALONG_Y, group)

    def bolt(self, at: Point, radius: float, material: Material, axis: NDArray[np.float64]) -> int:
        """A hexagonal head with a rounded end of a screw on it."""
        group = self.add(prism(6, radius, 0.5 * radius), at, material, axis)
        tip = list(np.array(at) + 0.6 * radius * axis[:, 2])
        return self.add(Cylinder(0.55 * radius, 0.5 * radius), tip, material, axis, group)

    def arc(
        self, at: Point, radius: float, thickness: float, turn: float, material: Material
    ) -> int:
        """A bent tube in the plane of x and z, of short straight pieces; starts upwards."""
        points = [
            (at[0] - radius + radius * math.cos(a), at[1], at[2] + radius * math.sin(a))
            for a in np.linspace(0, turn, 8)
        ]
        group = None
        for start, end in itertools.pairwise(points):
            direction = np.subtract(end, start)
            length = float(np.linalg.norm(direction))
            shape = Cylinder(thickness, 0.56 * length)
            middle = list(np.add(start, end) / 2)
            group = self.add(shape, middle, material, facing(direction / length), group)
        assert group is not None
        return group


def hole(at: Point, radius: float, rotation: NDArray[np.float64] = UP, depth: float = 2.0) -> Cut:
    """A round hole along z of the rotation."""
    return Cut(Cylinder(radius, depth), Placement(rotation, np.array(at, np.float64)))


def facing(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """A rotation that turns z into a unit vector."""
    helper = np.eye(3)[int(np.abs(direction).argmin())]
    x = np.cross(helper, direction)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(direction, x), direction], axis=1)


def about_z(angle: float) -> NDArray[np.float64]:
    """A rotation about z, radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _lattice(low: float, high: float) -> list[float]:
    count = max(1, round((high - low) / PITCH))
    return [low + (high - low) * (i + 0.5) / count for i in range(count)]
