"""A contact sheet of captures, one row each: train views, a good query, defects (framed)."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scene import InputError

_TILE = 200  # pixels
_MARGIN = 6  # pixels between a defect and its frame
_LIMIT = 290_000  # bytes


def write_overview(captures: list[Path], out: Path) -> None:
    """Writes a sheet with a row for each capture, in less than 300 kB.

    Raises:
        InputError: no train images in a capture.
    """
    rows = [_row(capture) for capture in captures]
    width = max(len(row) for row in rows)
    sheet = Image.new("RGB", (width * _TILE, len(rows) * _TILE), "white")
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            sheet.paste(tile, (x * _TILE, y * _TILE))
    for quality in (90, 80, 70, 60, 50, 40):
        sheet.save(out, quality=quality)
        if out.stat().st_size < _LIMIT:
            return


def _row(capture: Path) -> list[Image.Image]:
    """Two train views and the first query of every kind."""
    train = sorted((capture / "train" / "good").glob("*.png"), key=lambda p: int(p.stem))
    if not train:
        raise InputError(f"{capture} has no train/good/*.png: name a capture of this generator.")
    tiles = [_tile(train[len(train) // 4]), _tile(train[len(train) // 2])]
    kinds = sorted((capture / "test").glob("*"), key=lambda p: (p.name != "good", p.name))
    for kind in kinds:
        query = sorted(kind.glob("*.png"))[0]
        mask = capture / "ground_truth" / kind.name / f"{query.stem}_mask.png"
        tiles.append(_tile(query, mask if mask.is_file() else None))
    return tiles


def _tile(path: Path, mask: Path | None = None) -> Image.Image:
    """An image at the size of a tile, with a frame around its defect."""
    image = Image.open(path).convert("RGB")
    scale = _TILE / image.width
    tile = image.resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    if mask is not None:
        rows, columns = np.nonzero(np.asarray(Image.open(mask)))
        left, right = columns.min() * scale - _MARGIN, columns.max() * scale + _MARGIN
        top, bottom = rows.min() * scale - _MARGIN, rows.max() * scale + _MARGIN
        ImageDraw.Draw(tile).rectangle((left, top, right, bottom), outline="red")
    return tile
