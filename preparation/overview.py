"""overview.jpg: the photographs with the outlines of their masks, the cameras, the directions."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scene import atomic_write

from .coverage import Coverage
from .geometry import Array

_COLUMNS, _TILE = 10, 180  # photographs in a row; pixels
_PANEL = 520  # pixels, height of the plots
_MARGIN = 30  # pixels
_OUTLINE, _LEFT_OUT = (0, 255, 60), (220, 30, 30)
_QUALITY = 85
_FONT_SIZE = 15
_WRAPPED = 70  # letters in a line of text


@dataclass(frozen=True)
class Tile:
    """One photograph of the sheet."""

    name: str
    image: NDArray[np.uint8]  # [H, W, 3], reduced
    mask: NDArray[np.uint8] | None  # [H, W] of 0..255; None: left out


def tile_of(name: str, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None) -> Tile:
    """A photograph and its mask, reduced to what the sheet shows."""
    scale = _TILE / max(image.shape[:2])
    reduced = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    small = None
    if mask is not None:
        size = reduced.shape[1::-1]
        small = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Tile(name, np.asarray(reduced, np.uint8), small)


def write_overview(
    path: Path, tiles: Sequence[Tile], cover: Coverage, centres: Array, lines: Sequence[str]
) -> None:
    """Writes the sheet.

    Args:
        tiles: Photographs in their order, those left out as well.
        centres: Of the cameras [V, 3], from the object's middle, z upwards.
        lines: What is to be said about the capture.
    """
    rows = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, rows * _TILE + _PANEL), "white")
    for number, tile in enumerate(tiles):
        place = (number % _COLUMNS * _TILE, number // _COLUMNS * _TILE)
        _paste(sheet, tile, place)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    top, width = rows * _TILE, sheet.width // 3
    _draw_cameras(draw, font, centres, (0, top, width, top + _PANEL))
    _draw_directions(draw, font, cover, (width, top, 2 * width, top + _PANEL))
    text = [wrapped for line in lines for wrapped in textwrap.wrap(line, _WRAPPED)]
    draw.multiline_text((2 * width + 10, top + 20), "\n".join(text), fill="black", font=font)
    content = io.BytesIO()
    sheet.save(content, format="JPEG", quality=_QUALITY)
    with atomic_write(path) as file:
        file.write(content.getvalue())


def _paste(sheet: Image.Image, tile: Tile, place: tuple[int, int]) -> None:
    image = tile.image.copy()
    if tile.mask is not None:
        hard = (tile.mask > 127).astype(np.uint8)
        outlines, _ = cv2.findContours(hard, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, _OUTLINE, 1)
    sheet.paste(Image.fromarray(image), place)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    colour = "white" if tile.mask is not None else _LEFT_OUT
    draw.text((place[0] + 3, place[1] + 2), tile.name[:26], fill=colour, font=font,
              stroke_width=1, stroke_fill="black")  # fmt: skip
    if tile.mask is None:
        height, width = image.shape[:2]
        corner = (place[0] + width - 2, place[1] + height - 2)
        draw.rectangle((*place, *corner), outline=_LEFT_OUT, width=3)


def _draw_cameras(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    centres: Array, frame: tuple[int, int, int, int],
) -> None:  # fmt: skip
    """The cameras from above, and below that from the side."""
    left, top, right, bottom = frame
    reach = float(np.linalg.norm(centres, axis=1).max()) * 1.1
    half = (bottom - top) // 2
    for title, axes, middle, radius in (
        ("cameras from above", (0, 1), (left + (right - left) // 4, top + half), half),
        ("from the side", (0, 2), (left + 3 * (right - left) // 4, top + half), half),
    ):
        span = min(radius, (right - left) // 4) - _MARGIN
        draw.text((middle[0] - span, top + 5), title, fill="black", font=font)
        x, y = middle
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(90, 90, 90))
        for place in centres[:, axes] / reach:
            u, v = x + place[0] * span, y - place[1] * span
            draw.ellipse((u - 3, v - 3, u + 3, v + 3), fill=(30, 90, 200))


def _draw_directions(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    cover: Coverage, frame: tuple[int, int, int, int],
) -> None:  # fmt: skip
    """Azimuth to the right, elevation upwards; cells without a photograph near are red."""
    left, top, right, bottom = (frame[0] + 40, frame[1] + 30, frame[2] - 10, frame[3] - 40)
    width, height = right - left, bottom - top

    def at(azimuth: float, elevation: float) -> tuple[float, float]:
        return left + azimuth / 360 * width, bottom - (elevation + 90) / 180 * height

    draw.text((left, frame[1] + 5), "directions: azimuth, elevation", fill="black", font=font)
    cameras = _unit(cover.azimuths, cover.elevations)
    for azimuth in range(0, 360, 15):
        for elevation in range(-90, 90, 15):
            middle = _unit(np.array([azimuth + 7.5]), np.array([elevation + 7.5]))
            nearest = float(np.degrees(np.arccos(np.clip(cameras @ middle[0], -1, 1)).min()))
            shade = (205, 235, 205) if nearest < 20 else (245, 205, 200)
            (x, low), (end, high) = at(azimuth, elevation), at(azimuth + 15, elevation + 15)
            draw.rectangle((x, high, end, low), fill=shade)
    for azimuth, elevation in zip(cover.azimuths, cover.elevations, strict=True):
        x, y = at(float(azimuth), float(elevation))
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(30, 90, 200))
    for elevation in (-90, 0, 90):
        draw.text((frame[0] + 8, at(0, elevation)[1] - 8), f"{elevation}", fill="black", font=font)
    for azimuth in (0, 90, 180, 270, 360):
        draw.text((at(azimuth, -90)[0] - 10, bottom + 6), f"{azimuth}", fill="black", font=font)


def _unit(azimuths: Array, elevations: Array) -> Array:
    a, e = np.radians(azimuths), np.radians(elevations)
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
