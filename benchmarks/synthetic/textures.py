"""Patterns on parts: stripes, dots, blots, print; wood and soft shades for the surroundings."""

import math
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from preparation.board import draw_page

from .shapes import Array

Kind = Literal["stripes", "dots", "blots", "print", "wood", "shade", "board"]
KINDS: tuple[Kind, ...] = ("stripes", "dots", "blots")  # those that an object is given by chance
_TILE = 384  # pixels of a tile of print


@dataclass(frozen=True)
class Texture:
    """A second colour that covers some of a part's surface."""

    kind: Kind
    colour: tuple[float, float, float]  # sRGB
    period: float  # world units; of a board: its width
    axis: int = 0  # across which stripes run
    seed: int = 0  # of blots, print, wood and shade
    radius: float = 0.0  # world units; print is wound around a cylinder along z unless it is 0

    def cover(self, points: Array, normals: Array) -> Array:
        """Share of the second colour at points [3, N] of the part's frame, [N] in 0..1."""
        return np.asarray(np.clip(_PATTERNS[self.kind](self, points, normals), 0, 1), np.float32)


def _stripes(texture: Texture, points: Array, normals: Array) -> Array:
    wave: Array = np.sin(points[texture.axis] * (2 * np.pi / texture.period))
    return 0.5 + 6 * wave


def _dots(texture: Texture, points: Array, normals: Array) -> Array:
    """A square lattice on every side: the coordinate along the normal is left out."""
    cell = points / texture.period
    offset = cell - np.round(cell)
    offset[np.abs(normals).argmax(axis=0), np.arange(points.shape[1])] = 0
    return 0.5 + 6 * (0.3 - np.sqrt((offset * offset).sum(axis=0)))


def _blots(texture: Texture, points: Array, normals: Array) -> Array:
    """Where a sum of waves of random directions is high."""
    return 0.5 + 6 * (0.3 * (_waves(texture, points) - 1))


def _shade(texture: Texture, points: Array, normals: Array) -> Array:
    """The same sum of waves without its edges."""
    return 0.5 + 0.17 * _waves(texture, points)


def _wood(texture: Texture, points: Array, normals: Array) -> Array:
    """Boards along x with a grain that waves."""
    board = np.floor(points[1] / (4 * texture.period))
    drift = 0.4 * _waves(texture, points * np.array([[0.15], [0.6], [0.6]], np.float32))
    grain = np.sin(2 * np.pi * points[1] / texture.period + 5 * board + 2 * drift)
    fine = np.sin(points[1] * (23 / texture.period) + 0.3 * drift)
    joint = np.abs(points[1] / (4 * texture.period) - board - 0.5) > 0.485
    tone = 0.35 + 0.25 * grain + 0.08 * fine + 0.12 * np.sin(7 * board + texture.seed % 7)
    return np.asarray(np.where(joint, 1.0, tone), np.float32)


def _waves(texture: Texture, points: Array) -> Array:
    random = np.random.default_rng(texture.seed)
    waves = random.normal(size=(8, 3)) * (2.5 / texture.period)
    phases = random.uniform(0, 2 * np.pi, size=(8, 1))
    total: Array = np.sin(waves.astype(np.float32) @ points + phases).sum(axis=0)
    return total


def _print(texture: Texture, points: Array, normals: Array) -> Array:
    """A tile of text, repeated: upright on the sides, along x on top, around a cylinder."""
    x, y, z = points
    if texture.radius > 0:
        side = np.arctan2(y, x) * texture.radius
        top = np.abs(normals[2]) > 0.7
        across, up = np.where(top, x * np.sign(normals[2]), side), np.where(top, y, z)
    else:
        a, b, c = normals
        front = (np.abs(a) > np.abs(b)) & (np.abs(a) > np.abs(c))
        top = (np.abs(c) > np.abs(a)) & (np.abs(c) >= np.abs(b))
        across = np.where(front, y * np.sign(a), np.where(top, x * np.sign(c), -x * np.sign(b)))
        up = np.where(top, y, z)
    tile = _tile(texture.seed)
    column = (across / texture.period + 0.5) % 1 * _TILE
    row = (0.5 - up / texture.period) % 1 * _TILE
    return tile[row.astype(np.intp) % _TILE, column.astype(np.intp) % _TILE]


def _board(texture: Texture, points: Array, normals: Array) -> Array:
    """The board of prepare.py, seen from above."""
    page = _page()
    height, width = page.shape
    column = (points[0] / texture.period + 0.5) * width
    row = height / 2 - points[1] / texture.period * width
    rows = np.clip(row.astype(np.intp), 0, height - 1)
    return page[rows, np.clip(column.astype(np.intp), 0, width - 1)]


@lru_cache(maxsize=1)
def _page() -> Array:
    """How dark the printed page is, [H, W] in 0..1, reduced so that its pixels do not alias."""
    page = Image.fromarray(draw_page())
    return np.asarray(
        1 - np.asarray(page.resize((990, 700), Image.Resampling.BOX)) / 255, np.float32
    )


@lru_cache(maxsize=16)
def _tile(seed: int) -> Array:
    """Lines of random letters in several sizes, bars between them, [_TILE, _TILE] in 0..1."""
    random = np.random.default_rng(seed)
    image = Image.new("L", (_TILE, _TILE), 0)
    draw = ImageDraw.Draw(image)
    letters = list(string.ascii_uppercase + string.digits)
    top = 10
    while top < _TILE - 30:
        size = int(random.choice([20, 30, 44, 72]))
        if random.random() < 0.25:
            right = int(random.uniform(0.4, 0.95) * _TILE)
            draw.rectangle((12, top, right, top + size // 3), fill=255)
            top += size // 3 + 14
            continue
        text = "".join(random.choice(letters, math.ceil(_TILE / (0.75 * size))))
        draw.text((12, top), text, fill=255, font=ImageFont.load_default(size))
        top += int(1.3 * size)
    return np.asarray(np.asarray(image) / 255, np.float32)


_PATTERNS: dict[Kind, Callable[[Texture, Array, Array], Array]] = {
    "stripes": _stripes, "dots": _dots, "blots": _blots,
    "print": _print, "wood": _wood, "shade": _shade, "board": _board,
}  # fmt: skip
