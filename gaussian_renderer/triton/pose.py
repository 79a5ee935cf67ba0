"""Gauss-Newton normal equations of many poses in one pass over the pixels, exact to rounding.

Blending carries the derivatives of every pixel by the six components of the twist along
(forward mode), so that a linearisation costs little more than a rendering. See
`gaussian_renderer.normal_equations` for the definition.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from scene import Camera, Gaussians

from ..variants import Variants
from .binning import bin_splats, cover, tiles_of
from .blending import LEAST, alphas_of, load_splats, tile_place, weights_of
from .colours import seen_colours
from .projection import project
from .rasteriser import opacities_of
from .tangents import ROWS, TWIST, tangents

CHUNK = 2  # Gaussians; their derivatives by the pose are held for 256 pixels
WARPS = 8  # of a program; both chosen by registers, not by time
_NUMBERS_AT_ONCE = 2**27  # of the derivatives of all Gaussians in one call; bounds the memory
_PAD = 8  # components of a twist, filled up to a power of two
_SUMS = _PAD * _PAD + _PAD + 4  # J^T W J, J^T W r, loss, weight, inliers, pixels
_K, _TWIST, _TABLE = tl.constexpr(_PAD), tl.constexpr(TWIST), tl.constexpr(ROWS * TWIST)
_WIDTH = tl.constexpr(_SUMS)


@torch.no_grad()
def pose_rows(
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size
    views: Tensor,  # [K, 4, 4] object to camera
    targets: Tensor,  # [B, 3, H, W]
    background: Tensor,  # [3]
    huber: float,
    *,
    owners: Tensor,  # [K] int64, the target (and the variant) of each view
    variants: Variants | None = None,
    weights: Tensor | None = None,  # [B, H, W], not negative
    threads: int = 1,
) -> Tensor:
    """See `gaussian_renderer.backend.PoseRows`; `threads` has no meaning here.

    The device is waited for once a chunk, to learn how many pairs of Gaussian and tile there are.
    """
    most = max(1, _NUMBERS_AT_ONCE // (max(1, len(gaussians)) * ROWS * TWIST))
    chunks = zip(views.to(gaussians.means).split(most), owners.split(most), strict=True)
    problem = targets, background, huber
    return torch.cat(
        [_rows(gaussians, camera, some, *problem, own, variants, weights) for some, own in chunks]
    )


def _rows(
    gaussians: Gaussians,
    camera: Camera,
    views: Tensor,
    targets: Tensor,
    background: Tensor,
    huber: float,
    owners: Tensor,
    variants: Variants | None,
    weights: Tensor | None,
) -> Tensor:
    """The rows of one launch."""
    pixels, conics, depths, spreads = project(
        gaussians.means, gaussians.log_scales, gaussians.quaternions, views, camera
    )
    opacities = opacities_of(gaussians, len(views), variants, owners).contiguous()
    bins = bin_splats(cover(pixels, spreads, opacities, camera), depths, camera)
    constant = None if variants is None or variants.sh_constant is None else variants.sh_constant
    colours = seen_colours(
        gaussians.means, gaussians.sh, views, None if constant is None else constant[owners]
    )
    table = tangents(gaussians, views, opacities, colours, camera)
    across, down = tiles_of(camera)
    sums = pixels.new_empty(len(views), down * across, _SUMS)
    given = targets if weights is None else weights.contiguous()
    _sum_tiles[across, down, len(views)](
        pixels, conics, opacities, colours, table, bins.splats, bins.starts,
        targets.contiguous(), given, background.to(pixels).contiguous(), owners, sums,
        camera.width, camera.height, float(huber),
        WEIGHTED=weights is not None, COLOUR=gaussians.sh.shape[1] > 1, CHUNK=CHUNK,
        num_warps=WARPS,
    )  # fmt: skip
    total = sums.double().sum(dim=1)
    square = total[:, : _PAD * _PAD].unflatten(1, (_PAD, _PAD))[:, :TWIST, :TWIST]
    rest = total[:, _PAD * _PAD :]
    return torch.cat([square.flatten(1), rest[:, :TWIST], rest[:, _PAD:]], dim=1)


@triton.jit
def _row(table, rows, k, row: tl.constexpr, mask):  # type: ignore[no-untyped-def]
    """One row of the tangents of a chunk for all components, [CHUNK, 8, 1]."""
    at = table + rows[:, :, None] * _TABLE + row * _TWIST + k[None, :, None]
    return tl.load(at, mask=mask[:, None, None] & (k < _TWIST)[None, :, None], other=0.0)


@triton.jit(do_not_specialize=["width", "height"])
def _sum_tiles(  # type: ignore[no-untyped-def]
    pixels, conics, opacities, colours, table, splats, starts, targets, given, background,
    owners, sums, width, height, huber,
    WEIGHTED: tl.constexpr, COLOUR: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Blends a tile with derivatives, then folds its residuals.

    With ln(T) growing at `rate`, a weight w = T alpha changes by w (rate + d ln(alpha)), and the
    rate by -alpha / (1 - alpha) d ln(alpha).
    """
    tile, column, row, inside = tile_place(width, height)
    x, y = column[None, :] + 0.5, row[None, :] + 0.5
    at, end = tl.load(starts + tile), tl.load(starts + tile + 1)
    k = tl.arange(0, _K)
    zero = tl.where(inside, 0.0, 0.0).to(pixels.dtype.element_ty)
    through = tl.where(inside, zero + 1.0, zero)
    total, red, green, blue = zero, zero, zero, zero
    rate = zero[None, :] + tl.zeros([_K, 1], dtype=pixels.dtype.element_ty)
    by_red, by_green, by_blue = rate, rate, rate
    open = tl.max(through)
    while (at < end) & (open >= LEAST):
        listed = at + tl.arange(0, CHUNK)
        mask = listed < end
        rows, u, v, a, b, c, opacity = load_splats(pixels, conics, opacities, splats, listed, mask)
        dx, dy = u - x, v - y
        alpha, free = alphas_of(dx, dy, a, b, c, opacity)
        weight, going, through = weights_of(alpha, through, CHUNK)
        seen = colours + 3 * rows
        r, g, bl = tl.load(seen), tl.load(seen + 1), tl.load(seen + 2)
        total += tl.sum(weight, axis=0)
        red += tl.sum(weight * r, axis=0)
        green += tl.sum(weight * g, axis=0)
        blue += tl.sum(weight * bl, axis=0)
        moves = free & going & (alpha > 0.0)
        moving = tl.where(moves, weight, 0.0)[:, None, :]
        ratio = tl.where(moves, alpha / (1.0 - alpha), 0.0)[:, None, :]
        ex, ey = dx[:, None, :], dy[:, None, :]
        slope = _row(table, rows, k, 2, mask) * ex + _row(table, rows, k, 3, mask) * ey
        slope += _row(table, rows, k, 0, mask)
        fall = _row(table, rows, k, 4, mask) * ey + _row(table, rows, k, 1, mask)
        log_alpha = slope * ex + fall * ey  # [CHUNK, 8, pixels]
        lost = ratio * log_alpha
        before = rate[None, :, :] - (tl.cumsum(lost, axis=0) - lost)
        by_weight = moving * log_alpha + weight[:, None, :] * before
        rate -= tl.sum(lost, axis=0)
        by_red += tl.sum(by_weight * r[:, :, None], axis=0)
        by_green += tl.sum(by_weight * g[:, :, None], axis=0)
        by_blue += tl.sum(by_weight * bl[:, :, None], axis=0)
        if COLOUR:
            wide = weight[:, None, :]
            by_red += tl.sum(wide * _row(table, rows, k, 5, mask), axis=0)
            by_green += tl.sum(wide * _row(table, rows, k, 6, mask), axis=0)
            by_blue += tl.sum(wide * _row(table, rows, k, 7, mask), axis=0)
        open = tl.max(through)
        at += CHUNK
    _fold(
        (red, green, blue), (by_red, by_green, by_blue), total, rate, targets, given, background,
        tl.load(owners + tl.program_id(2)), width * height, row * width + column, inside, huber,
        sums + tile * _WIDTH, WEIGHTED,
    )  # fmt: skip


@triton.jit
def _fold(  # type: ignore[no-untyped-def]
    colour, slopes, total, rate, targets, given, background, owner, plane, pixel, inside, huber,
    out, WEIGHTED: tl.constexpr,
):  # fmt: skip
    """Adds up the residuals of a tile, with Huber's weight on their norm over the channels."""
    k = tl.arange(0, _K)
    aim = targets + owner * 3 * plane + pixel
    behind = 1.0 - total
    shade = (tl.load(background), tl.load(background + 1), tl.load(background + 2))
    red = colour[0] + behind * shade[0] - tl.load(aim, mask=inside, other=0.0)
    green = colour[1] + behind * shade[1] - tl.load(aim + plane, mask=inside, other=0.0)
    blue = colour[2] + behind * shade[2] - tl.load(aim + 2 * plane, mask=inside, other=0.0)
    fade = behind[None, :] * rate
    by_red = slopes[0] + fade * shade[0]
    by_green = slopes[1] + fade * shade[1]
    by_blue = slopes[2] + fade * shade[2]
    zero = total * 0.0
    share = tl.where(inside, zero + 1.0, zero)
    if WEIGHTED:
        share = tl.load(given + owner * plane + pixel, mask=inside, other=0.0)
    square = red * red + green * green + blue * blue
    norm = tl.sqrt(square)
    near, counted = norm <= huber, share > 0.0
    robust = share * tl.where(near, 1.0, huber / tl.maximum(norm, 1e-20))
    cost = tl.where(near, 0.5 * square, huber * (norm - 0.5 * huber))
    products = by_red[:, None, :] * (robust[None, :] * by_red)[None, :, :]
    products += by_green[:, None, :] * (robust[None, :] * by_green)[None, :, :]
    products += by_blue[:, None, :] * (robust[None, :] * by_blue)[None, :, :]
    tl.store(out + k[:, None] * _K + k[None, :], tl.sum(products, axis=2))
    pull = robust[None, :] * (by_red * red + by_green * green + by_blue * blue)
    tl.store(out + _K * _K + k, tl.sum(pull, axis=1))
    tail = out + _K * _K + _K
    tl.store(tail, tl.sum(share * cost))
    tl.store(tail + 1, tl.sum(robust))
    tl.store(tail + 2, tl.sum(tl.where(near & counted, zero + 1.0, zero)))
    tl.store(tail + 3, tl.sum(tl.where(counted, zero + 1.0, zero)))
