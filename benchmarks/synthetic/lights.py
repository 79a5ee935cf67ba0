"""Lights: a few lamps far away, and a dim sky all around; both throw shadows.

Shadows come from depth maps seen from the lights (Williams, Casting curved shadows on curved
surfaces, 1978), those of the sky from a coarse map for each of its directions, so that the
ambient light is dim in corners.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .parts import Part
from .shapes import Array
from .tracing import RayGrid, trace

REACH = 1.05  # world units: all objects lie within this distance of the origin
_LAMP_MAP = 512  # pixels of a lamp's depth map
_SKY_MAP = 160
_SKY_DIRECTIONS = 48
SKY_TURNS = 3
_SCENERY_MAP, _SCENERY_REACH = 1024, 2.6  # of lamps where a table stands around the object
_WIDE = 0.03  # world units: penumbras from here on are sampled finely
_SMALL_DISC = ((-1.0, 0.35), (-0.35, -1.0), (1.0, -0.35), (0.35, 1.0))
_LARGE_DISC = tuple(
    (math.sqrt((i + 0.5) / 16) * math.cos(2.4 * i), math.sqrt((i + 0.5) / 16) * math.sin(2.4 * i))
    for i in range(16)
)


@dataclass(frozen=True)
class Lamp:
    """A light far away, a soft box: it shines from one direction and shows in glossy surfaces."""

    towards: NDArray[np.float64]  # unit vector to the lamp, [3]
    colour: NDArray[np.float64]  # linear, [3]


@dataclass(frozen=True)
class Lights:
    """All lights, in the frame of the object or of the camera."""

    lamps: tuple[Lamp, ...]
    zenith: NDArray[np.float64]  # unit vector to the brightest part of the sky, [3]
    sky: float = 0.55  # light from the zenith
    ground: float = 0.38  # light from the opposite direction

    def turned(self, rotation: NDArray[np.float64]) -> "Lights":
        """The same lights after a rotation [3, 3]."""
        lamps = tuple(Lamp(rotation @ lamp.towards, lamp.colour) for lamp in self.lamps)
        return Lights(lamps, rotation @ self.zenith, self.sky, self.ground)

    def sky_at(self, directions: Array) -> Array:
        """Light of the sky from unit directions [3, N], [N]."""
        height = self.zenith.astype(np.float32) @ directions
        share = np.float32(0.5) * (1 + height)
        return np.asarray(self.ground + (self.sky - self.ground) * share, np.float32)


class ShadowMap:
    """What a light far away sees of the object."""

    def __init__(
        self,
        parts: Sequence[Part],
        towards: NDArray[np.float64],
        size: int,
        reach: float = REACH,
    ) -> None:
        pose = np.eye(4)
        pose[:3, :3] = _frame(-towards)
        pose[2, 3] = 2 * reach
        steps = ((np.arange(size) + 0.5) / size * 2 - 1) * reach
        grid = steps.astype(np.float32)
        self.rays = RayGrid(pose, grid, grid, parallel=True)
        self.step = np.float32(2 * reach / size)
        self.middle = np.float32(size / 2)
        self.depth = trace(parts, self.rays).depth

    def sees(self, points: Array, bias: float, spread: float = 0.0) -> Array:
        """Share of the light that reaches world points [3, N], [N].

        Args:
            bias: How much nearer than the map a point may not be, world units.
            spread: Radius of a penumbra, world units; 0: one sample, small: four, large: sixteen.
        """
        pose = self.rays.world_to_camera.astype(np.float32)
        x, y, z = pose[:3, :3] @ points + pose[:3, 3:]
        x, y = x / self.step + self.middle, y / self.step + self.middle
        z -= np.float32(bias)
        if spread == 0:
            return self._lit(x, y, z)
        total = np.zeros_like(z)
        disc = _SMALL_DISC if spread < _WIDE else _LARGE_DISC
        for across, down in disc:
            radius = np.float32(spread) / self.step
            total += self._lit(x + np.float32(across) * radius, y + np.float32(down) * radius, z)
        return total / np.float32(len(disc))

    def _lit(self, x: Array, y: Array, z: Array) -> Array:
        """1 where nothing is nearer to the light, at fractional cells of the map."""
        last = len(self.depth) - 1
        columns = np.minimum(np.maximum(x, 0), last).astype(np.intp)
        rows = np.minimum(np.maximum(y, 0), last).astype(np.intp)
        return (self.depth[rows, columns] > z).astype(np.float32)


class Sky:
    """How much of the sky every point sees: one coarse shadow map per direction."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.directions = _spiral(_SKY_DIRECTIONS)  # [K, 3]
        self.maps = [ShadowMap(parts, towards, _SKY_MAP) for towards in self.directions]

    def light(
        self, points: Array, normals: Array, lights: Lights, turns: NDArray[np.intp]
    ) -> Array:
        """Ambient light on points [3, N], [N]; 1 under an open sky of brightness 1.

        A point asks one direction in SKY_TURNS, those of its turn [N] in 0..SKY_TURNS - 1; the mean
        over the rays of a pixel is that of all directions.
        """
        strength = lights.sky_at(self.directions.T.astype(np.float32))
        strength *= 4 * SKY_TURNS / _SKY_DIRECTIONS
        total = np.zeros(points.shape[1], np.float32)
        for turn in range(SKY_TURNS):
            chosen = np.flatnonzero(turns == turn)
            total[chosen] = self._sum(points[:, chosen], normals[:, chosen], strength, turn)
        return total

    def _sum(self, points: Array, normals: Array, strength: Array, turn: int) -> Array:
        total = np.zeros(points.shape[1], np.float32)
        for index in range(turn, _SKY_DIRECTIONS, SKY_TURNS):
            facing = self.directions[index].astype(np.float32) @ normals
            front = np.flatnonzero(facing > 0)
            seen = self.maps[index].sees(points[:, front], 5 * REACH / _SKY_MAP)
            total[front] += strength[index] * facing[front] * seen
        return total


def lamp_map(parts: Sequence[Part], scenery: Sequence[Part], lamp: Lamp) -> ShadowMap:
    """The shadow map of a lamp."""
    if not scenery:
        return ShadowMap(parts, lamp.towards, _LAMP_MAP)
    casting = (*parts, *(part for part in scenery if part.casts))
    return ShadowMap(casting, lamp.towards, _SCENERY_MAP, _SCENERY_REACH)


def random_lights(
    random: np.random.Generator, fixed_to_camera: bool, from_below: bool = True
) -> Lights:
    """A bright lamp, a weaker one, a dim one from behind; colours nearly white.

    Args:
        from_below: Off: the object stands on something, so neither lamp nor sky shines from below.
    """
    if fixed_to_camera:  # OpenCV axes: x right, y down, z away from the camera
        wanted, zenith = ((-0.5, -0.6, -0.7), (0.8, -0.1, -0.6), (0.1, 0.9, -0.4)), (0.0, -1.0, 0.0)
    else:
        wanted, zenith = (
            ((0.45, -0.5, 0.75), (-0.75, 0.35, 0.3), (-0.1, 0.6, -0.7)),
            (0.0, 0.0, 1.0),
        )
    lamps = []
    for direction, power in zip(wanted, (0.62, 0.3, 0.2), strict=True):
        towards = np.array(direction) + random.normal(scale=0.15, size=3)
        tint = 1 + random.uniform(-0.04, 0.04, size=3)
        lamps.append(Lamp(towards / np.linalg.norm(towards), power * tint))
    if not from_below:
        return Lights(tuple(lamps[:2]), np.array(zenith), ground=0.2)
    return Lights(tuple(lamps), np.array(zenith))


def _frame(forward: NDArray[np.float64]) -> NDArray[np.float64]:
    """A rotation whose third row is `forward`, [3, 3]."""
    helper = np.eye(3)[int(np.abs(forward).argmin())]
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def _spiral(count: int) -> NDArray[np.float64]:
    """Unit vectors spread evenly over the sphere, [count, 3]."""
    steps = np.arange(count)
    height = 1 - (2 * steps + 1) / count
    angle, radius = steps * math.pi * (3 - math.sqrt(5)), np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
