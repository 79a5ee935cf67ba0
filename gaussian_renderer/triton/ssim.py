"""The photometric loss on a GPU: four Triton kernels instead of some thirty small ones.

Forward: blur the rows of x, y, x^2, y^2, xy; blur the columns, form SSIM and its derivatives with
respect to the three blurred moments that depend on x, and sum per block. Backward: blur those
derivatives (the window is symmetric) and apply the chain rule. Sums have a fixed order: the same
input gives the same bits. `losses.photometric_loss_reference` is the definition.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..losses import WINDOW, _window

BLOCK = 128  # pixels of one image row per program
_RADIUS = WINDOW // 2


def fused_photometric_loss(
    image: Tensor, target: Tensor, ssim_weight: float = 0.2, threads: int = 1
) -> Tensor:
    """Scalar (1 - l) L1 + l (1 - SSIM) of float32 [C, H, W] images; gradients flow to `image`.

    `threads` has no meaning here.
    """
    loss: Tensor = _PhotometricLoss.apply(image.contiguous(), target.contiguous(), ssim_weight)
    return loss


class _PhotometricLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, ssim_weight: float) -> Tensor:
        """The loss; keeps the derivatives of SSIM by its filtered maps for backward."""
        _, height, width = image.shape
        window = _window(image.dtype, image.device)
        moments = image.new_empty(5, *image.shape)
        _launch(_blur_moment_rows, image, image, target, window, moments, image.numel(), width)
        derivatives = image.new_empty(3, *image.shape)
        sums = image.new_empty(2, *_grid(image))
        _launch(
            _ssim_columns, image,
            image, target, window, moments, derivatives, sums, image.numel(), height, width,
        )  # fmt: skip
        ctx.save_for_backward(image, target, window, derivatives)
        ctx.ssim_weight = ssim_weight
        absolute, similarity = (sums.sum(dim=(1, 2)) / image.numel()).unbind()
        return (1 - ssim_weight) * absolute + ssim_weight * (1 - similarity)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        """Filters the derivatives back, and adds that of the absolute difference."""
        image, target, window, derivatives = ctx.saved_tensors
        _, height, width = image.shape
        blurred = torch.empty_like(derivatives)
        _launch(_blur_rows, derivatives, derivatives, window, blurred, width)
        gradient = torch.empty_like(image)
        _launch(
            _gradient_columns, image, image, target, window, blurred, upstream[0].contiguous(),
            gradient, ctx.ssim_weight, image.numel(), height, width,
        )  # fmt: skip
        return gradient, None, None


def _grid(maps: Tensor) -> tuple[int, int]:
    """Programs for maps [..., H, W]: one per BLOCK pixels of a row."""
    width = maps.shape[-1]
    return maps.numel() // width, triton.cdiv(width, BLOCK)


def _launch(kernel: Any, maps: Tensor, *arguments: Any) -> None:
    """Runs a kernel over all rows of `maps`."""
    kernel[_grid(maps)](*arguments, RADIUS=_RADIUS, BLOCK=BLOCK)


@triton.jit
def _blur_moment_rows(  # type: ignore[no-untyped-def]
    image, target, window, moments, count, width, RADIUS: tl.constexpr, BLOCK: tl.constexpr
):
    """Rows of x, y, x^2, y^2 and xy, blurred along the row with zeros beyond its ends."""
    row = tl.program_id(0) * width
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mean_x = tl.zeros([BLOCK], dtype=tl.float32)
    mean_y, xx, yy, xy = mean_x, mean_x, mean_x, mean_x
    for tap in tl.static_range(2 * RADIUS + 1):
        source = column + tap - RADIUS
        inside = (source >= 0) & (source < width)
        x = tl.load(image + row + source, mask=inside, other=0.0)
        y = tl.load(target + row + source, mask=inside, other=0.0)
        weight = tl.load(window + tap)
        mean_x += weight * x
        mean_y += weight * y
        xx += weight * x * x
        yy += weight * y * y
        xy += weight * x * y
    out, valid = moments + row + column, column < width
    tl.store(out, mean_x, mask=valid)
    tl.store(out + count, mean_y, mask=valid)
    tl.store(out + 2 * count, xx, mask=valid)
    tl.store(out + 3 * count, yy, mask=valid)
    tl.store(out + 4 * count, xy, mask=valid)


@triton.jit
def _ssim_columns(  # type: ignore[no-untyped-def]
    image, target, window, moments, derivatives, sums, count, height, width,
    RADIUS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Blurs the columns, forms SSIM (Wang et al. 2004), its derivatives, and the two sums."""
    row = tl.program_id(0)
    y_in_plane = tl.zeros([BLOCK], dtype=tl.int32) + row % height
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = column < width
    at = row * width + column
    mean_x = tl.zeros([BLOCK], dtype=tl.float32)
    mean_y, xx, yy, xy = mean_x, mean_x, mean_x, mean_x
    for tap in tl.static_range(2 * RADIUS + 1):
        line = y_in_plane + tap - RADIUS
        inside = valid & (line >= 0) & (line < height)
        source = moments + at + (tap - RADIUS) * width
        weight = tl.load(window + tap)
        mean_x += weight * tl.load(source, mask=inside, other=0.0)
        mean_y += weight * tl.load(source + count, mask=inside, other=0.0)
        xx += weight * tl.load(source + 2 * count, mask=inside, other=0.0)
        yy += weight * tl.load(source + 3 * count, mask=inside, other=0.0)
        xy += weight * tl.load(source + 4 * count, mask=inside, other=0.0)
    a1 = 2 * mean_x * mean_y + 0.0001
    a2 = 2 * (xy - mean_x * mean_y) + 0.0009
    b1 = mean_x * mean_x + mean_y * mean_y + 0.0001
    b2 = xx - mean_x * mean_x + yy - mean_y * mean_y + 0.0009
    ssim = a1 * a2 / (b1 * b2)
    by_xx = -ssim / b2
    by_xy = 2 * a1 / (b1 * b2)
    by_mean = (
        2 * mean_y * a2 / (b1 * b2) - 2 * mean_x * ssim / b1 - 2 * mean_x * by_xx - mean_y * by_xy
    )
    tl.store(derivatives + at, by_mean, mask=valid)
    tl.store(derivatives + count + at, by_xx, mask=valid)
    tl.store(derivatives + 2 * count + at, by_xy, mask=valid)
    x = tl.load(image + at, mask=valid, other=0.0)
    y = tl.load(target + at, mask=valid, other=0.0)
    block = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(sums + block, tl.sum(tl.abs(x - y)))
    tl.store(
        sums + tl.num_programs(0) * tl.num_programs(1) + block,
        tl.sum(tl.where(valid, ssim, 0.0)),
    )


@triton.jit
def _blur_rows(maps, window, blurred, width, RADIUS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Every row of any number of planes, blurred along the row."""
    row = tl.program_id(0) * width
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for tap in tl.static_range(2 * RADIUS + 1):
        source = column + tap - RADIUS
        inside = (source >= 0) & (source < width)
        total += tl.load(window + tap) * tl.load(maps + row + source, mask=inside, other=0.0)
    tl.store(blurred + row + column, total, mask=column < width)


@triton.jit
def _gradient_columns(  # type: ignore[no-untyped-def]
    image, target, window, blurred, upstream, gradient, ssim_weight, count, height, width,
    RADIUS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Blurs the columns of the three derivative maps and applies the chain rule to x."""
    row = tl.program_id(0)
    y_in_plane = tl.zeros([BLOCK], dtype=tl.int32) + row % height
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = column < width
    at = row * width + column
    by_mean = tl.zeros([BLOCK], dtype=tl.float32)
    by_xx, by_xy = by_mean, by_mean
    for tap in tl.static_range(2 * RADIUS + 1):
        line = y_in_plane + tap - RADIUS
        inside = valid & (line >= 0) & (line < height)
        source = blurred + at + (tap - RADIUS) * width
        weight = tl.load(window + tap)
        by_mean += weight * tl.load(source, mask=inside, other=0.0)
        by_xx += weight * tl.load(source + count, mask=inside, other=0.0)
        by_xy += weight * tl.load(source + 2 * count, mask=inside, other=0.0)
    x = tl.load(image + at, mask=valid, other=0.0)
    y = tl.load(target + at, mask=valid, other=0.0)
    sign = tl.where(x > y, 1.0, tl.where(x < y, -1.0, 0.0))
    ssim_part = by_mean + 2 * x * by_xx + y * by_xy
    scale = tl.load(upstream) / count
    tl.store(
        gradient + at,
        scale * ((1 - ssim_weight) * sign - ssim_weight * ssim_part),
        mask=valid,
    )
