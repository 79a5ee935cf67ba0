"""Front-to-back blending of tiles, forward and backward, one program a tile.

A chunk of CHUNK Gaussians and the 256 pixels of a tile form one block, so that what runs along the
Gaussians (the transmittance, suffix sums) stays within a thread. Nothing is added with atomics:
each pair of Gaussian and tile writes its gradient to a slot of its own, and slots are summed in a
fixed order. The same input gives the same bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from scene import Camera

from ..reference import ALPHA_MAX, ALPHA_MIN, TRANSMITTANCE_MIN
from .binning import TILE, Bins, tiles_of

CHUNK = 8  # Gaussians
WARPS = 4  # of a program; both chosen by registers, not by time
GROUP = 4  # channels of one pass
GEOMETRY = 6  # gradients of a slot before those of the channels
_TILE = tl.constexpr(TILE)
_GROUP = tl.constexpr(GROUP)
_GEOMETRY = tl.constexpr(GEOMETRY)
_ALPHA_MAX, _ALPHA_MIN = tl.constexpr(ALPHA_MAX), tl.constexpr(ALPHA_MIN)
LEAST = tl.constexpr(TRANSMITTANCE_MIN)


def blend(
    pixels: Tensor,  # [B, N, 2]
    conics: Tensor,  # [B, N, 3]
    opacities: Tensor,  # [B, N]
    channels: Tensor,  # [B, N, C]
    bins: Bins,
    camera: Camera,
) -> tuple[Tensor, Tensor]:
    """Sums of weight * channel [B, C, H, W] and of weight [B, H, W]; gradients to all four."""
    parts, alphas = [], None
    for some in channels.split(GROUP, dim=-1):
        blended, alpha = _Blending.apply(
            pixels.contiguous(), conics.contiguous(), opacities.contiguous(), some.contiguous(),
            bins, camera,
        )  # fmt: skip
        parts.append(blended)
        alphas = alpha if alphas is None else alphas
    assert alphas is not None
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)), alphas


class _Blending(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pixels: Tensor, conics: Tensor, opacities: Tensor, channels: Tensor,
        bins: Bins, camera: Camera,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Up to GROUP channels."""
        count = channels.shape[2]
        size = camera.height, camera.width
        blended = pixels.new_empty(len(pixels), count, *size)
        alphas = pixels.new_empty(len(pixels), *size)
        _blend[_grid(pixels, camera)](
            pixels, conics, opacities, channels, bins.splats, bins.starts, blended, alphas,
            camera.width, camera.height, CHANNELS=count, CHUNK=CHUNK, num_warps=WARPS,
        )  # fmt: skip
        ctx.save_for_backward(pixels, conics, opacities, channels, blended, alphas, *bins)
        ctx.camera = camera
        return blended, alphas

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """One gradient for every pair, then sums over the tiles of each Gaussian."""
        pixels, conics, opacities, channels, blended, alphas, *rest = ctx.saved_tensors
        bins = Bins(*rest)
        slots = pixels.new_zeros(len(bins.slots), GEOMETRY + channels.shape[2])
        _blend_backward[_grid(pixels, ctx.camera)](
            pixels, conics, opacities, channels, bins.splats, bins.starts, bins.slots,
            blended, alphas, *(flow.contiguous() for flow in upstream), slots,
            ctx.camera.width, ctx.camera.height, CHANNELS=channels.shape[2], CHUNK=CHUNK,
            num_warps=WARPS,
        )  # fmt: skip
        sums = slots.new_zeros(len(bins.lengths), slots.shape[1])
        if len(slots):
            sums = torch.segment_reduce(slots, "sum", lengths=bins.lengths, axis=0, unsafe=True)
        sums = sums.unflatten(0, opacities.shape)
        by_log_opacity, by_pixel, by_conic, by_channel = sums.split(
            [1, 2, 3, channels.shape[2]], dim=-1
        )
        by_opacity = by_log_opacity[..., 0] / opacities.clamp_min(ALPHA_MIN)
        return by_pixel, by_conic, by_opacity, by_channel, None, None


def _grid(pixels: Tensor, camera: Camera) -> tuple[int, int, int]:
    across, down = tiles_of(camera)
    return across, down, len(pixels)


@triton.jit
def tile_place(width, height):  # type: ignore[no-untyped-def]
    """Tile number, pixels of the tile (column, row, offset in the view), and which are inside."""
    tile = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0)
    inner = tl.arange(0, _TILE * _TILE)
    column = tl.program_id(0) * _TILE + inner % _TILE
    row = tl.program_id(1) * _TILE + inner // _TILE
    return tile + tl.program_id(0), column, row, (column < width) & (row < height)


@triton.jit
def load_splats(pixels, conics, opacities, splats, at, mask):  # type: ignore[no-untyped-def]
    """A chunk of a list: rows, means, conics and opacities, [CHUNK, 1] each."""
    rows = tl.load(splats + at, mask=mask, other=0)[:, None]
    mask = mask[:, None]
    u = tl.load(pixels + 2 * rows, mask=mask, other=0.0)
    v = tl.load(pixels + 2 * rows + 1, mask=mask, other=0.0)
    a = tl.load(conics + 3 * rows, mask=mask, other=0.0)
    b = tl.load(conics + 3 * rows + 1, mask=mask, other=0.0)
    c = tl.load(conics + 3 * rows + 2, mask=mask, other=0.0)
    return rows, u, v, a, b, c, tl.load(opacities + rows, mask=mask, other=0.0)


@triton.jit
def alphas_of(dx, dy, a, b, c, opacity):  # type: ignore[no-untyped-def]
    """Alpha where it is drawn, else 0, and where it was not held at its largest value."""
    raw = opacity * tl.exp(-0.5 * (a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))
    return tl.where(raw >= _ALPHA_MIN, tl.minimum(raw, _ALPHA_MAX), 0.0), raw <= _ALPHA_MAX


@triton.jit
def weights_of(alpha, through, CHUNK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Blending weights [CHUNK, pixels], where the ray still goes on, and what it goes on with."""
    after = through[None, :] * tl.cumprod(1.0 - alpha, axis=0)
    going = after >= LEAST
    weight = tl.where(going, alpha * after / (1.0 - alpha), 0.0)
    return weight, going, tl.min(after, axis=0)


@triton.jit(do_not_specialize=["width", "height"])
def _blend(  # type: ignore[no-untyped-def]
    pixels, conics, opacities, channels, splats, starts, blended, alphas,
    width, height, CHANNELS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    tile, column, row, inside = tile_place(width, height)
    x, y = column[None, :] + 0.5, row[None, :] + 0.5
    at, end = tl.load(starts + tile), tl.load(starts + tile + 1)
    zero = tl.zeros([_TILE * _TILE], dtype=pixels.dtype.element_ty)
    through = tl.where(inside, zero + 1.0, zero)
    total, red, green, blue, fourth = zero, zero, zero, zero, zero
    open = tl.max(through)
    while (at < end) & (open >= LEAST):
        listed = at + tl.arange(0, CHUNK)
        rows, u, v, a, b, c, opacity = load_splats(
            pixels, conics, opacities, splats, listed, listed < end
        )
        alpha, _ = alphas_of(u - x, v - y, a, b, c, opacity)
        weight, _, through = weights_of(alpha, through, CHUNK)
        total += tl.sum(weight, axis=0)
        seen = channels + CHANNELS * rows
        red += tl.sum(weight * tl.load(seen), axis=0)
        if CHANNELS > 1:
            green += tl.sum(weight * tl.load(seen + 1), axis=0)
        if CHANNELS > 2:
            blue += tl.sum(weight * tl.load(seen + 2), axis=0)
        if CHANNELS > 3:
            fourth += tl.sum(weight * tl.load(seen + 3), axis=0)
        open = tl.max(through)
        at += CHUNK
    view, plane = tl.program_id(2).to(tl.int64), width * height
    pixel = row * width + column
    tl.store(alphas + view * plane + pixel, total, mask=inside)
    out = blended + view * CHANNELS * plane + pixel
    tl.store(out, red, mask=inside)
    if CHANNELS > 1:
        tl.store(out + plane, green, mask=inside)
    if CHANNELS > 2:
        tl.store(out + 2 * plane, blue, mask=inside)
    if CHANNELS > 3:
        tl.store(out + 3 * plane, fourth, mask=inside)


@triton.jit
def _load_maps(base, plane, pixel, inside, CHANNELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Up to four channels of the tile's pixels; 0 for those that there are not."""
    red = tl.load(base + pixel, mask=inside, other=0.0)
    green, blue, fourth = 0.0 * red, 0.0 * red, 0.0 * red
    if CHANNELS > 1:
        green = tl.load(base + plane + pixel, mask=inside, other=0.0)
    if CHANNELS > 2:
        blue = tl.load(base + 2 * plane + pixel, mask=inside, other=0.0)
    if CHANNELS > 3:
        fourth = tl.load(base + 3 * plane + pixel, mask=inside, other=0.0)
    return red, green, blue, fourth


@triton.jit(do_not_specialize=["width", "height"])
def _blend_backward(  # type: ignore[no-untyped-def]
    pixels, conics, opacities, channels, splats, starts, slots, blended, alphas,
    by_blended, by_alphas, sums, width, height, CHANNELS: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """What a Gaussian adds is its weight times its channels, less what it hides behind it."""
    tile, column, row, inside = tile_place(width, height)
    x, y = column[None, :] + 0.5, row[None, :] + 0.5
    at, end = tl.load(starts + tile), tl.load(starts + tile + 1)
    view, plane = tl.program_id(2).to(tl.int64), width * height
    pixel = row * width + column
    shift = view * CHANNELS * plane
    shown = _load_maps(blended + shift, plane, pixel, inside, CHANNELS)
    flow = _load_maps(by_blended + shift, plane, pixel, inside, CHANNELS)
    by_alpha = tl.load(by_alphas + view * plane + pixel, mask=inside, other=0.0)
    behind = by_alpha * tl.load(alphas + view * plane + pixel, mask=inside, other=0.0)
    for k in tl.static_range(_GROUP):
        behind += flow[k] * shown[k]
    through = tl.where(inside, 0.0 * behind + 1.0, 0.0 * behind)
    open = tl.max(through)
    while (at < end) & (open >= LEAST):
        listed = at + tl.arange(0, CHUNK)
        mask = listed < end
        rows, u, v, a, b, c, opacity = load_splats(pixels, conics, opacities, splats, listed, mask)
        dx, dy = u - x, v - y
        alpha, free = alphas_of(dx, dy, a, b, c, opacity)
        weight, going, through = weights_of(alpha, through, CHUNK)
        seen = channels + CHANNELS * rows
        value = by_alpha[None, :] + tl.load(seen) * flow[0][None, :]
        for k in tl.static_range(1, CHANNELS):
            value += tl.load(seen + k) * flow[k][None, :]
        gain = weight * value
        hidden = behind[None, :] - tl.cumsum(gain, axis=0)
        behind -= tl.sum(gain, axis=0)
        # by the logarithm of alpha; what is held or not drawn does not move
        moves = free & going & (alpha > 0.0)
        h = tl.where(moves, gain - hidden * alpha / (1.0 - alpha), 0.0)
        out = sums + tl.load(slots + listed, mask=mask, other=0) * (_GEOMETRY + CHANNELS)
        hx, hy = h * dx, h * dy
        a, b, c = tl.reshape(a, [CHUNK]), tl.reshape(b, [CHUNK]), tl.reshape(c, [CHUNK])
        sx, sy = tl.sum(hx, axis=1), tl.sum(hy, axis=1)
        tl.store(out, tl.sum(h, axis=1), mask=mask)
        tl.store(out + 1, -(a * sx + b * sy), mask=mask)
        tl.store(out + 2, -(b * sx + c * sy), mask=mask)
        tl.store(out + 3, -0.5 * tl.sum(hx * dx, axis=1), mask=mask)
        tl.store(out + 4, -tl.sum(hx * dy, axis=1), mask=mask)
        tl.store(out + 5, -0.5 * tl.sum(hy * dy, axis=1), mask=mask)
        for k in tl.static_range(CHANNELS):
            share = tl.sum(weight * flow[k][None, :], axis=1)
            tl.store(out + _GEOMETRY + k, share, mask=mask)
        open = tl.max(through)
        at += CHUNK
