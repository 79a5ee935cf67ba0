"""Which Gaussians touch which tiles of which views, nearest first."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from scene import Camera

from ..reference import ALPHA_MIN

TILE = 16  # pixels on a side
BLOCK = 128  # Gaussians or pairs of one program
_TILE = tl.constexpr(TILE)
_ALPHA_MIN = tl.constexpr(ALPHA_MIN)
_LARGEST = tl.constexpr(1e9)  # pixels; a radius must fit 32 bits


class Covers(NamedTuple):
    """Rectangles outside of which alpha is under 1/255."""

    corners: Tensor  # [B, N] int32 first tile touched, number in its view
    widths: Tensor  # [B, N] int32 tiles across
    lengths: Tensor  # [B, N] int64 tiles touched; 0 where nothing is drawn
    radii: Tensor  # [B, N] int32 px, half the longer side; 0 where not on the image


class Bins(NamedTuple):
    """P pairs of a Gaussian and a tile, made view by view and Gaussian by Gaussian.

    Lists: the pairs of one tile stand together, nearest first, view by view and row by row.
    Slots: the pairs of one Gaussian in one view stand together, so that what its tiles say of it
    can be added up in a fixed order.
    """

    splats: Tensor  # [P] int64 view * N + Gaussian, in the order of the lists
    slots: Tensor  # [P] int64, where each listed pair was before
    starts: Tensor  # [B * tiles + 1] int64, where the list of each tile begins
    lengths: Tensor  # [B * N] int64 tiles of each Gaussian


def tiles_of(camera: Camera) -> tuple[int, int]:
    """Tiles across and down."""
    return -(-camera.width // TILE), -(-camera.height // TILE)


@torch.no_grad()
def cover(
    pixels: Tensor,  # [B, N, 2]
    spreads: Tensor,  # [B, N, 2] diagonals of the covariances, 0 behind the camera
    opacities: Tensor,  # [B, N]
    camera: Camera,
) -> Covers:
    """The tiles that each Gaussian may touch: those with a pixel centre in its rectangle."""
    shape = opacities.shape
    corners, widths, radii = (
        torch.empty(shape, dtype=torch.int32, device=pixels.device) for _ in range(3)
    )
    lengths = torch.empty(shape, dtype=torch.int64, device=pixels.device)
    _cover[(triton.cdiv(opacities.numel(), BLOCK),)](
        pixels.contiguous(), spreads, opacities.contiguous(), corners, widths, lengths, radii,
        opacities.numel(), float(camera.width), float(camera.height), tiles_of(camera)[0],
        BLOCK=BLOCK,
    )  # fmt: skip
    return Covers(corners, widths, lengths, radii)


@torch.no_grad()
def bin_splats(covers: Covers, depths: Tensor, camera: Camera) -> Bins:
    """Lists the pairs; the device is waited for once, to learn how many there are.

    `depths` is [B, N]; equal ones keep the order of the Gaussians.
    """
    across, down = tiles_of(camera)
    lengths = covers.lengths.flatten()
    ends = lengths.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    splats = torch.repeat_interleave(lengths, output_size=total)
    keys = torch.empty_like(splats)
    if total:
        # the bits of a positive float are in the order of its value
        nearness = depths.detach().float().contiguous().view(torch.int32)
        _number[(triton.cdiv(total, BLOCK),)](
            splats, ends, *covers[:3], nearness, keys, total, depths.shape[1], across,
            across * down, BLOCK=BLOCK,
        )  # fmt: skip
    keys, slots = keys.sort(stable=True)
    lists = torch.arange(depths.shape[0] * across * down + 1, device=keys.device)
    return Bins(splats[slots], slots, torch.searchsorted(keys, lists << 32), lengths)


@triton.jit
def _span(mean, half, size):  # type: ignore[no-untyped-def]
    """First and last pixel whose centre is within `half` of the mean; last < first: none."""
    low = tl.maximum(tl.ceil(mean - half - 0.5), 0.0)
    high = tl.minimum(tl.floor(mean + half - 0.5), size - 1.0)
    # a minimum would pass NaN by, so the numbers themselves are looked at
    hit = (low <= high) & (half > 0.0) & (half < _LARGEST) & (tl.abs(mean) < _LARGEST)
    return tl.where(hit, low, 0.0).to(tl.int32), tl.where(hit, high, -1.0).to(tl.int32), hit


@triton.jit(do_not_specialize=["count", "across"])
def _cover(  # type: ignore[no-untyped-def]
    pixels, spreads, opacities, corners, widths, lengths, radii,
    count, width, height, across, BLOCK: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < count
    opacity = tl.load(opacities + rows, mask=mask, other=0.0)
    reach = 2.0 * tl.log(tl.maximum(opacity / _ALPHA_MIN, 1.0))  # q at which alpha = 1/255
    reach = tl.where(opacity >= _ALPHA_MIN, reach, 0.0)
    u = tl.load(pixels + 2 * rows, mask=mask, other=0.0)
    v = tl.load(pixels + 2 * rows + 1, mask=mask, other=0.0)
    half_u = tl.sqrt(reach * tl.load(spreads + 2 * rows, mask=mask, other=0.0))
    half_v = tl.sqrt(reach * tl.load(spreads + 2 * rows + 1, mask=mask, other=0.0))
    left, right, in_columns = _span(u, half_u, width)
    top, bottom, in_rows = _span(v, half_v, height)
    hit = in_columns & in_rows
    first_column, first_row = left // _TILE, top // _TILE
    columns = tl.where(hit, right // _TILE + 1 - first_column, 0)
    lines = tl.where(hit, bottom // _TILE + 1 - first_row, 0)
    tl.store(corners + rows, first_row * across + first_column, mask=mask)
    tl.store(widths + rows, columns, mask=mask)
    tl.store(lengths + rows, (columns * lines).to(tl.int64), mask=mask)
    longest = tl.maximum(half_u, half_v)
    shown = (longest > 0.0) & (longest < _LARGEST) & (u + half_u >= 0.0) & (v + half_v >= 0.0)
    shown = shown & (u - half_u <= width) & (v - half_v <= height)
    radius = tl.where(shown, tl.maximum(tl.ceil(longest), 1.0), 0.0)
    tl.store(radii + rows, radius.to(tl.int32), mask=mask)


@triton.jit(do_not_specialize=["total", "count", "across", "tiles"])
def _number(  # type: ignore[no-untyped-def]
    splats, ends, corners, widths, lengths, nearness, keys, total, count, across, tiles,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Keys that sort pairs by view, tile and depth."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < total
    splat = tl.load(splats + at, mask=mask, other=0)
    place = at - (tl.load(ends + splat, mask=mask) - tl.load(lengths + splat, mask=mask, other=0))
    width = tl.load(widths + splat, mask=mask, other=1).to(tl.int64)
    row = place // width
    tile = tl.load(corners + splat, mask=mask, other=0) + row * across + (place - row * width)
    tile += splat // count * tiles
    near = tl.load(nearness + splat, mask=mask, other=0).to(tl.int64)
    tl.store(keys + at, (tile << 32) | near, mask=mask)
