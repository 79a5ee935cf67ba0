"""Defects in geometry and material: lumps and chips, missing pieces, stains.

Each is put where the camera sees the object, and its mask is what it changes in the image.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, label, uniform_filter

from .builder import facing
from .cameras import rotation
from .colours import to_srgb
from .parts import Assembly, Cut, Part, Placement, Stain
from .shading import SAMPLES, Rendering, Surface, surface_of
from .shapes import Box, Ellipsoid, Shape

_BURR = 0.075  # world units: median size of a lump or chip
_STAIN = 0.075  # median radius
_CUT = 0.13  # median size of a piece that is cut off
_SPREAD = 0.35  # of the logarithms of these sizes
_CHIPS = 0.3  # share of Burrs that are chips
_CUTS = 0.35  # share of Missing where a piece of a part is gone, not the whole
_GROUP = (60, 3000)  # pixels: visible size of parts that go missing
_STAINS = (
    (0.75, 0.36, 0.06), (0.20, 0.14, 0.08), (0.12, 0.40, 0.14), (0.86, 0.80, 0.55),
    (0.55, 0.08, 0.10), (0.05, 0.05, 0.06), (0.16, 0.24, 0.50), (0.95, 0.95, 0.93),
)  # fmt: skip
_FAINT = 0.16  # about how much a faint stain differs from what it lies on, sRGB
_SPECK = 10  # pixels at 400 x 400: smaller regions of a mask are left out

VISIBLE = 8 / 255  # least change of a channel that counts as visible
LEAST = 20  # pixels: least size of a mask, also of its `visible_pixels`


@dataclass(frozen=True)
class Defect:
    """An object with a defect."""

    assembly: Assembly
    details: dict[str, Any]


@dataclass(frozen=True)
class Spot:
    """A point of the object that the camera sees."""

    point: NDArray[np.float64]  # world, [3]
    normal: NDArray[np.float64]  # world, [3]
    part: Part
    colour: tuple[float, float, float]  # sRGB


def burr(assembly: Assembly, rendering: Rendering, random: np.random.Generator) -> Defect:
    """A lump on the surface, or a chip out of it."""
    spot = _spot(assembly, rendering, random)
    size = float(_BURR * np.exp(_SPREAD * random.normal()))
    if random.random() < _CHIPS:
        cut = Cut(_body(random, size), _place(spot, random, -0.1 * size))
        chipped = _cut_group(assembly, spot.part.group, cut)
        return Defect(chipped, {"style": "chip", "size": size, "at": spot.point.tolist()})
    parts = list(assembly.parts)
    material = replace(spot.part.material, colour=spot.colour, texture=None)
    for _ in range(int(random.integers(1, 4))):
        x, y, z = (float(f) * 0.55 * size for f in random.uniform(0.45, 1.0, size=3))
        place = _place(spot, random, 0.1 * size)
        aside = place.centre + random.normal(scale=0.25 * size, size=3)
        parts.append(
            Part(Ellipsoid((x, y, z)), replace(place, centre=aside), material, spot.part.group)
        )
    details = {"style": "lump", "size": size, "at": spot.point.tolist()}
    return Defect(replace(assembly, parts=tuple(parts)), details)


def missing(assembly: Assembly, rendering: Rendering, random: np.random.Generator) -> Defect:
    """Parts that came off, or a piece of a part."""
    groups = np.array([part.group for part in assembly.parts])
    seen = rendering.hits.part[rendering.on_object]
    pixels = np.bincount(groups[seen], minlength=groups.max() + 1) / SAMPLES**2
    loose = np.flatnonzero((pixels >= _GROUP[0]) & (pixels <= _GROUP[1]))
    if len(loose) and random.random() >= _CUTS:
        gone = int(random.choice(loose))
        kept = tuple(part for part in assembly.parts if part.group != gone)
        return Defect(replace(assembly, parts=kept), {"style": "part", "group": gone})
    spot = _spot(assembly, rendering, random)
    size = float(_CUT * np.exp(_SPREAD * random.normal()))
    cut = Cut(_body(random, 2 * size), _place(spot, random, -0.3 * size))
    details = {"style": "cut", "size": size, "at": spot.point.tolist()}
    return Defect(_cut_group(assembly, spot.part.group, cut), details)


def stain(assembly: Assembly, rendering: Rendering, random: np.random.Generator) -> Defect:
    """A patch of another colour on the surface."""
    spot = _spot(assembly, rendering, random)
    if assembly.faint:
        away = _FAINT if sum(spot.colour) < 1.5 else -_FAINT
        red, green, blue = (c + away * float(random.uniform(0.6, 1.6)) for c in spot.colour)
        colour = red, green, blue
    else:
        other = [c for c in _STAINS if float(np.abs(np.subtract(c, spot.colour)).max()) > 0.15]
        colour = other[int(random.integers(len(other)))]
    radius = float(_STAIN * np.exp(_SPREAD * random.normal()))
    opacity = float(random.uniform(0.55, 1.0))
    ragged = random.normal(scale=0.9 / radius, size=(4, 3))
    mark = Stain(spot.point, radius, colour, opacity, ragged)
    details = {"radius": radius, "color": list(colour), "opacity": opacity}
    return Defect(replace(assembly, stains=(mark,)), details | {"at": spot.point.tolist()})


Maker = Callable[[Assembly, Rendering, np.random.Generator], Defect]
KINDS: dict[str, Maker] = {"Burrs": burr, "Missing": missing, "Stains": stain}


def mask(good: Rendering, bad: Rendering, defect: Assembly) -> NDArray[np.bool_]:
    """Pixels [H, W] where the defect is met and the image differs visibly.

    Gaps of a pixel or two are closed and specks left out, as in the bundled class. Shadows that
    the defect throws elsewhere are no part of it.
    """
    with np.errstate(invalid="ignore"):  # infinite depths: nothing is met
        met = np.abs(good.hits.depth - bad.hits.depth) > 1e-5
    for mark in defect.stains:
        rows, columns = np.nonzero(bad.on_object)
        points = bad.rays.points(rows, columns, bad.hits.depth[rows, columns])
        met[rows, columns] |= mark.cover(points) > 0
    size = len(good.colours)
    touched = met.reshape(size, SAMPLES, size, SAMPLES).any(axis=(1, 3))
    difference = np.abs(to_srgb(good.colours) - to_srgb(bad.colours)).max(axis=2)
    marked = touched & binary_closing(touched & (difference > VISIBLE), np.ones((3, 3)))
    return _without_specks(marked, _SPECK * (size / 400) ** 2)


def _without_specks(marked: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """The mask without regions of fewer pixels than `least`."""
    regions, _ = label(marked, np.ones((3, 3)))
    large = np.bincount(regions.ravel()) >= least
    large[0] = False
    return np.asarray(large[regions])


def visible_pixels(good: Rendering, bad: Rendering, marked: NDArray[np.bool_]) -> int:
    """Pixels of a mask where the difference is still visible when averaged over 3 x 3 pixels.

    Threads and sprinkles of single pixels are no defect that a person would find.
    """
    difference = to_srgb(good.colours) - to_srgb(bad.colours)
    averaged = np.abs(uniform_filter(difference, (3, 3, 0))).max(axis=2)
    return int((averaged[marked] > VISIBLE).sum())


def _spot(assembly: Assembly, rendering: Rendering, random: np.random.Generator) -> Spot:
    """A point by chance, evenly over the image of the object."""
    rows, columns = np.nonzero(rendering.on_object)
    chosen = int(random.integers(len(rows)))
    row, column = rows[chosen : chosen + 1], columns[chosen : chosen + 1]
    surface: Surface = surface_of(assembly, rendering.hits, rendering.rays, row, column)
    part = assembly.parts[int(rendering.hits.part[row[0], column[0]])]
    red, green, blue = (float(c) for c in to_srgb(surface.albedo[:, 0]))
    point, normal = (a[:, 0].astype(np.float64) for a in (surface.points, surface.normals))
    return Spot(point, normal / np.linalg.norm(normal), part, (red, green, blue))


def _place(spot: Spot, random: np.random.Generator, height: float) -> Placement:
    """Near a spot, that much above the surface, turned by chance."""
    turned = facing(spot.normal) @ rotation(random.normal(scale=0.6, size=3))
    return Placement(turned, spot.point + height * spot.normal)


def _body(random: np.random.Generator, size: float) -> Shape:
    """A box or an ellipsoid of about that size."""
    x, y, z = (float(f) * 0.5 * size for f in random.uniform(0.6, 1.1, size=3))
    return Box((x, y, z)) if random.random() < 0.5 else Ellipsoid((x, y, z))


def _cut_group(assembly: Assembly, group: int, cut: Cut) -> Assembly:
    """The cut taken from all parts of a group."""
    parts = (part.without(cut) if part.group == group else part for part in assembly.parts)
    return replace(assembly, parts=tuple(parts))
