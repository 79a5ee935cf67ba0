"""Convex bodies that a ray enters once and leaves once; what the objects are assembled of.

Every body stands around its own origin. Rays and points are arrays [3, ...]; a ray's direction need
not have unit length, and all distances along it count in that direction's length.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_TINY = np.float32(1e-9)  # in place of a zero that would be divided by
_BEVEL = 0.018  # world units: width of the rounding that shading gives to edges


class Shape(Protocol):
    """A convex body."""

    @property
    def half(self) -> Array:
        """Half the sides of a box around it, [3]."""

    def interval(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """Where rays enter and leave, each [...]; a ray enters after it leaves where it misses."""

    def normal(self, points: Array) -> Array:
        """Outward unit normals [3, N] at points on the surface [3, N]."""

    def scaled(self, factor: float) -> "Shape":
        """The same body, larger by a factor."""


@dataclass(frozen=True)
class Box:
    """A box; its edges are shaded as if rounded."""

    sides: tuple[float, float, float]  # half lengths

    @property
    def half(self) -> Array:
        """See Shape."""
        return np.array(self.sides, np.float32)

    def interval(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """See Shape: the slab test."""
        near, far = None, None
        for axis in range(3):
            inverse = 1 / _not_zero(direction[axis])
            middle, reach = -origin[axis] * inverse, np.abs(inverse) * np.float32(self.sides[axis])
            enter, leave = middle - reach, middle + reach
            near = enter if near is None else np.maximum(near, enter)
            far = leave if far is None else np.minimum(far, leave)
        assert near is not None
        assert far is not None
        return near, far

    def normal(self, points: Array) -> Array:
        """See Shape."""
        half = self.half[:, None]
        bevel = np.minimum(_BEVEL, 0.3 * half.min())
        return _unit(np.sign(points) * np.maximum(np.abs(points) - (half - bevel), 1e-6))

    def scaled(self, factor: float) -> Shape:
        """See Shape."""
        x, y, z = self.sides
        return Box((factor * x, factor * y, factor * z))


@dataclass(frozen=True)
class Cylinder:
    """A cylinder along z with flat ends; its rims are shaded as if rounded."""

    radius: float
    height: float  # half

    @property
    def half(self) -> Array:
        """See Shape."""
        return np.array([self.radius, self.radius, self.height], np.float32)

    def interval(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """See Shape: the infinite cylinder and the slab between its ends."""
        (x, y, z), (dx, dy, dz) = origin, direction
        squared = np.maximum(dx * dx + dy * dy, _TINY)
        half_linear = x * dx + y * dy
        radicand = half_linear**2 - squared * (x * x + y * y - np.float32(self.radius) ** 2)
        root = np.sqrt(np.maximum(radicand, 0)) / squared
        middle = -half_linear / squared
        inverse = 1 / _not_zero(dz)
        centre, reach = -z * inverse, np.abs(inverse) * np.float32(self.height)
        near, far = (
            np.maximum(middle - root, centre - reach),
            np.minimum(middle + root, centre + reach),
        )
        return np.where(radicand < 0, np.float32(np.inf), near), far

    def normal(self, points: Array) -> Array:
        """See Shape."""
        bevel = min(_BEVEL, 0.3 * self.radius, 0.3 * self.height)
        distance = np.maximum(np.hypot(points[0], points[1]), 1e-9)
        outward = np.maximum(distance - (self.radius - bevel), 1e-6)
        up = np.sign(points[2]) * np.maximum(np.abs(points[2]) - (self.height - bevel), 1e-6)
        return _unit(np.stack([points[0] / distance * outward, points[1] / distance * outward, up]))

    def scaled(self, factor: float) -> Shape:
        """See Shape."""
        return Cylinder(factor * self.radius, factor * self.height)


@dataclass(frozen=True)
class Ellipsoid:
    """A sphere stretched along the axes."""

    radii: tuple[float, float, float]

    @property
    def half(self) -> Array:
        """See Shape."""
        return np.array(self.radii, np.float32)

    def interval(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """See Shape: a unit sphere in stretched coordinates."""
        scale = [np.float32(1 / r) for r in self.radii]
        x, y, z = (o * s for o, s in zip(origin, scale, strict=True))
        dx, dy, dz = (d * s for d, s in zip(direction, scale, strict=True))
        squared = dx * dx + dy * dy + dz * dz
        half_linear = x * dx + y * dy + z * dz
        radicand = half_linear**2 - squared * (x * x + y * y + z * z - 1)
        root = np.sqrt(np.maximum(radicand, 0))
        near, far = (-half_linear - root) / squared, (-half_linear + root) / squared
        return np.where(radicand < 0, np.float32(np.inf), near), far

    def normal(self, points: Array) -> Array:
        """See Shape: the gradient of the implicit function."""
        return _unit(points / self.half[:, None] ** 2)

    def scaled(self, factor: float) -> Shape:
        """See Shape."""
        x, y, z = self.radii
        return Ellipsoid((factor * x, factor * y, factor * z))


@dataclass(frozen=True)
class Polytope:
    """What lies behind all planes: normal . point <= offset."""

    normals: tuple[tuple[float, float, float], ...]  # unit
    offsets: tuple[float, ...]
    extent: tuple[float, float, float]  # half the sides of a box around it

    @property
    def half(self) -> Array:
        """See Shape."""
        return np.array(self.extent, np.float32)

    def interval(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """See Shape: one plane after the other (Cyrus and Beck)."""
        near: Array | None = None
        far: Array | None = None
        planes = np.array(self.normals, np.float32), np.array(self.offsets, np.float32)
        for (a, b, c), offset in zip(*planes, strict=True):
            slope = _not_zero(a * direction[0] + b * direction[1] + c * direction[2])
            at = (offset - (a * origin[0] + b * origin[1] + c * origin[2])) / slope
            enter, leave = np.where(slope < 0, at, -np.inf), np.where(slope > 0, at, np.inf)
            near = enter if near is None else np.maximum(near, enter)
            far = leave if far is None else np.minimum(far, leave)
        assert near is not None
        assert far is not None
        return near.astype(np.float32), far.astype(np.float32)

    def normal(self, points: Array) -> Array:
        """See Shape: of the plane that the point lies on."""
        normals = np.array(self.normals, np.float32)
        depth = normals @ points - np.array(self.offsets, np.float32)[:, None]
        return normals[depth.argmax(axis=0)].T

    def scaled(self, factor: float) -> Shape:
        """See Shape."""
        x, y, z = self.extent
        offsets = tuple(factor * offset for offset in self.offsets)
        return Polytope(self.normals, offsets, (factor * x, factor * y, factor * z))


def prism(corners: int, radius: float, height: float) -> Polytope:
    """A regular prism along z: `radius` of the inscribed circle, half its `height`."""
    angles = [2 * math.pi * i / corners for i in range(corners)]
    sides = tuple((math.cos(a), math.sin(a), 0.0) for a in angles)
    reach = radius / math.cos(math.pi / corners)
    return Polytope(
        (*sides, (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)),
        (radius,) * corners + (height, height),
        (reach, reach, height),
    )


def wedge(x: float, y: float, z: float) -> Polytope:
    """A box (half sides) cut by a slope from its top at -0.4 x down to -0.6 z at its side +x."""
    length = math.hypot(1.6 * z, 1.4 * x)
    faces = ((1.0, 0, 0), (-1.0, 0, 0), (0, 1.0, 0), (0, -1.0, 0), (0, 0, 1.0), (0, 0, -1.0))
    slope = (1.6 * z / length, 0.0, 1.4 * x / length)
    return Polytope((*faces, slope), (x, x, y, y, z, z, 0.76 * x * z / length), (x, y, z))


def _not_zero(values: Array) -> Array:
    return np.where(np.abs(values) < _TINY, _TINY, values)


def _unit(vectors: Array) -> Array:
    length = np.sqrt((vectors * vectors).sum(axis=0))
    return (vectors / np.maximum(length, 1e-20)).astype(np.float32)
