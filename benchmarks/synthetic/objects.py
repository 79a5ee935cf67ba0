"""Random objects from a seed: one of the blueprints, at unit size."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from .bricks import animal, building, vehicle
from .builder import Builder, about_z
from .machines import gears, pump
from .metal import flange, valve
from .parts import Assembly, Part
from .plain import bracket, lamp, nut, rods
from .products import board, charger, remote, tin
from .thin import rack, screwdriver

Blueprint = Literal[
    "vehicle", "animal", "building", "pump", "gears",
    "rack", "flange", "valve", "tin", "board", "screwdriver", "remote", "charger",
    "rods", "lamp", "bracket", "nut",
]  # fmt: skip
BLUEPRINTS: dict[Blueprint, Callable[[Builder], None]] = {
    "vehicle": vehicle,  # bricks
    "animal": animal,
    "building": building,
    "pump": pump,  # machines
    "gears": gears,
    "rack": rack,  # thin wires
    "flange": flange,  # nearly symmetric
    "valve": valve,  # metal, no texture
    "tin": tin,  # printed
    "board": board,  # flat
    "screwdriver": screwdriver,  # long
    "remote": remote,  # black on black
    "charger": charger,  # white on white
    "rods": rods,  # thin, no texture
    "lamp": lamp,  # thin and nearly symmetric
    "bracket": bracket,  # flat, no texture
    "nut": nut,  # exactly symmetric
}
_BY_CHANCE: tuple[Blueprint, ...] = ("vehicle", "animal", "building", "pump", "gears")
_FAINT: tuple[Blueprint, ...] = ("remote", "charger")  # stains of nearly the same colour
RADIUS = 1.0  # world units: of a ball around the object


def random_object(
    random: np.random.Generator, blueprint: Blueprint | None = None, symmetric: bool = False
) -> Assembly:
    """An object in a ball of RADIUS around the origin.

    Args:
        blueprint: Which kind of object; None: bricks or machines by chance.
        symmetric: Joined with its own copy, turned by half a turn, but for one part's colour.
    """
    by_chance = _BY_CHANCE[int(random.integers(len(_BY_CHANCE)))]
    chosen = blueprint or by_chance
    builder = Builder(random)
    BLUEPRINTS[chosen](builder)
    parts = _fitted(builder.parts)
    if symmetric:
        parts = _doubled(parts, random, builder)
    return Assembly(tuple(parts), faint=chosen in _FAINT)


def _fitted(parts: Sequence[Part]) -> list[Part]:
    """The parts moved and scaled into the ball."""
    corners = np.concatenate([part.corners() for part in parts], axis=1)
    middle = (corners.min(axis=1) + corners.max(axis=1)) / 2
    scale = RADIUS / float(np.linalg.norm(corners - middle[:, None], axis=0).max())
    return [part.moved(np.eye(3), scale, -scale * middle) for part in parts]


def _doubled(parts: Sequence[Part], random: np.random.Generator, builder: Builder) -> list[Part]:
    """Side by side with a copy turned by half a turn about z; one of its groups is repainted."""
    aside = np.array([0.0, 0.45, 0.0])
    first = [part.moved(np.eye(3), 1.0, aside) for part in parts]
    offset = 1 + max(part.group for part in parts)
    marked = int(random.integers(offset))
    second = []
    for part in first:
        copy = replace(part.moved(about_z(np.pi), 1.0, np.zeros(3)), group=part.group + offset)
        if part.group == marked:
            copy = replace(copy, material=replace(builder.paint(1), texture=None))
        second.append(copy)
    return _fitted([*first, *second])
