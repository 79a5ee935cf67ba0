"""Random objects from a seed: one of the blueprints, at unit size."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from .bricks import animal, building, vehicle
from .builder import Builder, about_z
from .machines import gears, pump
from .parts import Assembly, Part

Blueprint = Literal["vehicle", "animal", "building", "pump", "gears"]
BLUEPRINTS: dict[Blueprint, Callable[[Builder], None]] = {
    "vehicle": vehicle, "animal": animal, "building": building, "pump": pump, "gears": gears,
}  # fmt: skip
RADIUS = 1.0  # world units: of a ball around the object


def random_object(
    random: np.random.Generator, blueprint: Blueprint | None = None, symmetric: bool = False
) -> Assembly:
    """An object in a ball of RADIUS around the origin.

    Args:
        blueprint: Which kind of object; None: by chance.
        symmetric: Joined with its own copy, turned by half a turn, but for one part's colour.
    """
    names = list(BLUEPRINTS)
    by_chance = names[int(random.integers(len(names)))]
    builder = Builder(random)
    BLUEPRINTS[blueprint or by_chance](builder)
    parts = _fitted(builder.parts)
    return Assembly(tuple(_doubled(parts, random, builder) if symmetric else parts))


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
