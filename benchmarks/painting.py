"""Small synthetic defects on photographs of a good object, to choose settings without a test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from anomaly.filters import gaussian_blur

_EDGE = 0.6  # pixels, softness of a painted edge: about that of a photograph
_MARGIN = 4  # pixels of the silhouette's rim that inner defects keep clear of
_DARK = 0.2  # a patch on black is still lighter by this share of its contrast


@dataclass(frozen=True)
class DefectKind:
    """What is painted, how large, and how far from the colour below."""

    name: str
    what: Literal["shade", "neighbour", "excess", "stain", "missing"]
    area: tuple[float, float]  # pixels, smallest and largest
    contrast: float  # share by which a shade differs; cover of a stain; not used by the others


KINDS = (
    DefectKind("burr, 15 %", "shade", (20, 100), 0.15),
    DefectKind("burr, 30 %", "shade", (20, 100), 0.30),
    DefectKind("burr, neighbour's colour", "neighbour", (20, 100), 1.0),
    DefectKind("burr over the silhouette", "excess", (20, 100), 1.0),
    DefectKind("stain", "stain", (60, 250), 0.35),
    DefectKind("missing", "missing", (40, 200), 1.0),
)


class Painted(NamedTuple):
    """One photograph with one defect."""

    image: Tensor  # [3, H, W]
    mask: Tensor  # [H, W] bool, pixels that the defect covers by half
    kind: DefectKind


def paint(
    image: Tensor,  # [3, H, W], 0..1
    silhouette: Tensor,  # [H, W] bool
    background: Sequence[float],  # r, g, b
    kind: DefectKind,
    random: np.random.Generator,
) -> Painted:
    """One defect of this kind at a random place of the object. The same draws, the same picture.

    "shade" makes a patch lighter or darker, "neighbour" gives it a colour from 6 to 20 px away,
    "excess" sticks out over the silhouette in the colour of the object there, "stain" mixes in a
    random colour with a soft edge, "missing" bites the background's colour into the rim.
    Raises ValueError for an empty silhouette.
    """
    inside = silhouette.cpu().numpy()
    if not inside.any():
        raise ValueError("a defect needs an object to lie on")
    at_rim = kind.what in ("excess", "missing")
    y, x = _place(inside, at_rim, random)
    soft = 2.0 if kind.what == "stain" else _EDGE
    cover = _blob(inside.shape, y, x, random.uniform(*kind.area), soft, random).to(image)
    colour = _colour(image, inside, background, kind, (y, x), random)
    if kind.what == "stain":
        cover = cover * kind.contrast
        mask = cover > 0.5 * kind.contrast
    else:
        mask = cover > 0.5
    if kind.what == "missing":
        mask = mask & silhouette
    return Painted(image + cover * (colour - image), mask, kind)


def _place(inside: NDArray, at_rim: bool, random: np.random.Generator) -> tuple[int, int]:
    """A pixel of the object: on its rim, or well inside where there is such a place."""
    core = ndimage.binary_erosion(inside, iterations=1 if at_rim else _MARGIN)
    chosen = inside & ~core if at_rim else core
    rows, columns = np.nonzero(chosen if chosen.any() else inside)
    index = int(random.integers(len(rows)))
    return int(rows[index]), int(columns[index])


def _blob(
    shape: tuple[int, ...], y: int, x: int, area: float, soft: float, random: np.random.Generator
) -> Tensor:
    """Cover [H, W] in 0..1 of an ellipse with a wavy outline, of about this area in pixels."""
    ratio, turn = random.uniform(1.0, 2.5), random.uniform(0.0, math.pi)
    wave, phase = random.uniform(0.0, 0.25), random.uniform(0.0, 2 * math.pi)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    dy, dx = rows - y, columns - x
    u = (math.cos(turn) * dx + math.sin(turn) * dy) / math.sqrt(ratio)
    v = (math.cos(turn) * dy - math.sin(turn) * dx) * math.sqrt(ratio)
    radius = math.sqrt(area / math.pi) * (1 + wave * np.sin(3 * np.arctan2(v, u) + phase))
    return gaussian_blur(torch.from_numpy((np.hypot(u, v) < radius).astype(np.float32)), soft)


def _colour(
    image: Tensor,
    inside: NDArray,
    background: Sequence[float],
    kind: DefectKind,
    place: tuple[int, int],
    random: np.random.Generator,
) -> Tensor:
    """Colour of the patch, [3, 1, 1], or for a shade [3, H, W]: the picture's own, changed."""
    if kind.what == "shade":
        factor = kind.contrast * random.choice((-1.0, 1.0))
        return (image + factor * (_DARK + (1.0 - _DARK) * image)).clamp(0.0, 1.0)
    if kind.what == "missing":
        return image.new_tensor(list(background))[:, None, None]
    if kind.what == "stain":
        return torch.from_numpy(random.uniform(0.0, 1.0, 3)).to(image)[:, None, None]
    low, high = (6.0, 20.0) if kind.what == "neighbour" else (2.0, 6.0)
    rows, columns = np.nonzero(inside)
    distance = np.hypot(rows - place[0], columns - place[1])
    near = np.nonzero((distance >= low) & (distance <= high))[0]
    index = int(random.choice(near)) if len(near) else int(distance.argmin())
    return image[:, rows[index], columns[index]][:, None, None]
