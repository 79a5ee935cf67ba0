"""Gaussians onto the image planes of many views, forward and backward."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from scene import Camera

from .algebra import dot, from_camera, load_vector, see, store_vector

BLOCK = 128  # Gaussians of one program


def project(
    means: Tensor,  # [N, 3]
    log_scales: Tensor,  # [N, 3]
    quaternions: Tensor,  # [N, 4]
    views: Tensor,  # [B, 4, 4] object to camera
    camera: Camera,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels [B, N, 2], conics [B, N, 3], depths [B, N], and covariances' diagonals [B, N, 2].

    The diagonal carries no gradient; it is 0 for Gaussians that are not in front of the camera.
    """
    tensors = (t.contiguous() for t in (means, log_scales, quaternions, views))
    pixels, conics, depths, spreads = _Projection.apply(*tensors, camera)
    return pixels, conics, depths, spreads


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means: Tensor, log_scales: Tensor, quaternions: Tensor, views: Tensor, camera: Any
    ) -> tuple[Tensor, ...]:
        """Everything is computed again in backward: reading is dearer than computing."""
        shape = len(views), len(means)
        pixels, conics = means.new_empty(*shape, 2), means.new_empty(*shape, 3)
        depths, spreads = means.new_empty(shape), means.new_empty(*shape, 2)
        _project[_grid(shape)](
            means, log_scales, quaternions, views, pixels, conics, depths, spreads,
            len(means), float(camera.cx), float(camera.cy), *lens(camera), BLOCK=BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(means, log_scales, quaternions, views)
        ctx.camera = camera
        ctx.mark_non_differentiable(spreads)
        return pixels, conics, depths, spreads

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[Tensor | None, ...]:
        """Gradients of each view by themselves, then their sum in a fixed order."""
        means, log_scales, quaternions, views = ctx.saved_tensors
        shape = len(views), len(means)
        flows = [flow.contiguous() for flow in upstream[:3]]
        by_mean, by_scale = means.new_empty(*shape, 3), means.new_empty(*shape, 3)
        by_quaternion = means.new_empty(*shape, 4)
        grid = _grid(shape)
        moving = ctx.needs_input_grad[3]
        by_view = means.new_empty(*grid, 12 if moving else 0)
        _project_backward[grid](
            means, log_scales, quaternions, views, *flows, by_mean, by_scale, by_quaternion,
            by_view, len(means), *lens(ctx.camera), MOVING=moving, BLOCK=BLOCK,
        )  # fmt: skip
        by = [over_views(flow) for flow in (by_mean, by_scale, by_quaternion)]
        return *by, view_gradient(by_view) if moving else None, None


def lens(camera: Camera) -> tuple[float, ...]:
    """Focal lengths and size, pixels, as kernels take them."""
    return float(camera.fx), float(camera.fy), float(camera.width), float(camera.height)


def over_views(flow: Tensor) -> Tensor:
    """Sum of gradients [B, N, ...] over the views; nothing is launched for a single one."""
    return flow[0] if len(flow) == 1 else flow.sum(0)


def view_gradient(partial: Tensor) -> Tensor:
    """Sums [B, programs, 12] of rotation and translation as gradients of [B, 4, 4]."""
    total = partial.double().sum(dim=1)
    rows = torch.cat([total[:, :9].unflatten(1, (3, 3)), total[:, 9:, None]], dim=2)
    return torch.nn.functional.pad(rows, (0, 0, 0, 1)).to(partial.dtype)


def _grid(shape: tuple[int, int]) -> tuple[int, int]:
    return shape[0], triton.cdiv(shape[1], BLOCK)


@triton.jit(do_not_specialize=["count"])
def _project(  # type: ignore[no-untyped-def]
    means, log_scales, quaternions, views, pixels, conics, depths, spreads,
    count, cx, cy, fx, fy, width, height, BLOCK: tl.constexpr,
):  # fmt: skip
    view = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < count
    _, _, placed, _, _, _, conic, spread, drawn = see(
        means, log_scales, quaternions, views, view, rows, mask, fx, fy, width, height
    )
    point, inverse = placed[0], placed[1]
    out = view.to(tl.int64) * count + rows
    tl.store(pixels + 2 * out, fx * point[0] * inverse + cx, mask=mask)
    tl.store(pixels + 2 * out + 1, fy * point[1] * inverse + cy, mask=mask)
    store_vector(conics, out, conic, mask)
    tl.store(depths + out, point[2], mask=mask)
    tl.store(spreads + 2 * out, tl.where(drawn, spread[0], 0.0), mask=mask)
    tl.store(spreads + 2 * out + 1, tl.where(drawn, spread[1], 0.0), mask=mask)


@triton.jit
def _covariance_backward(conic, half, by_conic):  # type: ignore[no-untyped-def]
    """Gradient of the two rows of `half`: dL/d(covariance) = -conic dL/d(conic) conic."""
    a, b, c = conic[0], conic[1], conic[2]
    ga, gb, gc = by_conic[0], 0.5 * by_conic[1], by_conic[2]
    p, q = a * ga + b * gb, a * gb + b * gc  # first row of conic G
    r, s = b * ga + c * gb, b * gb + c * gc
    xx, xy, yy = -2.0 * (p * a + q * b), -2.0 * (p * b + q * c), -2.0 * (r * b + s * c)
    h, k = half[0], half[1]
    return (
        (xx * h[0] + xy * k[0], xx * h[1] + xy * k[1], xx * h[2] + xy * k[2]),
        (yy * k[0] + xy * h[0], yy * k[1] + xy * h[1], yy * k[2] + xy * h[2]),
    )


@triton.jit
def _outer_sum(jacobian, by_half, row: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row of J^T dL/d(half), the gradient of the axes."""
    first, second = jacobian[0][row], jacobian[1][row]
    return (
        first * by_half[0][0] + second * by_half[1][0],
        first * by_half[0][1] + second * by_half[1][1],
        first * by_half[0][2] + second * by_half[1][2],
    )


@triton.jit
def _quaternion_backward(quaternion, inverse, scale, by_axes):  # type: ignore[no-untyped-def]
    """Through the rotation matrix and the normalisation."""
    w, x, y, z = quaternion[0], quaternion[1], quaternion[2], quaternion[3]
    d00, d10, d20 = by_axes[0][0] * scale[0], by_axes[1][0] * scale[0], by_axes[2][0] * scale[0]
    d01, d11, d21 = by_axes[0][1] * scale[1], by_axes[1][1] * scale[1], by_axes[2][1] * scale[1]
    d02, d12, d22 = by_axes[0][2] * scale[2], by_axes[1][2] * scale[2], by_axes[2][2] * scale[2]
    gw = 2.0 * (x * (d21 - d12) + y * (d02 - d20) + z * (d10 - d01))
    gx = 2.0 * (y * (d01 + d10) + z * (d02 + d20) + w * (d21 - d12) - 2.0 * x * (d11 + d22))
    gy = 2.0 * (x * (d01 + d10) + z * (d12 + d21) + w * (d02 - d20) - 2.0 * y * (d00 + d22))
    gz = 2.0 * (x * (d02 + d20) + y * (d12 + d21) + w * (d10 - d01) - 2.0 * z * (d00 + d11))
    along = gw * w + gx * x + gy * y + gz * z
    return (
        (gw - w * along) * inverse,
        (gx - x * along) * inverse,
        (gy - y * along) * inverse,
        (gz - z * along) * inverse,
    )


@triton.jit
def _ray_backward(by_row, row, last, slope, free, by_pixel, focal, inverse):  # type: ignore[no-untyped-def]
    """Gradients of one row of the rotation and of the last, of x / z, and of 1 / z (its part)."""
    factor = focal * inverse
    by_first = (factor * by_row[0], factor * by_row[1], factor * by_row[2])
    by_slope = tl.where(free, -dot(by_first, last), 0.0) + focal * by_pixel
    moved = (row[0] - slope * last[0], row[1] - slope * last[1], row[2] - slope * last[2])
    return by_first, by_slope, focal * dot(by_row, moved)


@triton.jit(do_not_specialize=["count"])
def _project_backward(  # type: ignore[no-untyped-def]
    means, log_scales, quaternions, views, by_pixels, by_conics, by_depths,
    by_means, by_scales, by_quaternions, by_views,
    count, fx, fy, width, height, MOVING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    view = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < count
    rotation, mean, placed, shape, axes, half, conic, _, drawn = see(
        means, log_scales, quaternions, views, view, rows, mask, fx, fy, width, height
    )
    point, inverse, slopes, free, jacobian, _ = placed
    out = view.to(tl.int64) * count + rows
    by_half = _covariance_backward(conic, half, load_vector(by_conics, out, drawn))
    by_axes = (
        _outer_sum(jacobian, by_half, 0),
        _outer_sum(jacobian, by_half, 1),
        _outer_sum(jacobian, by_half, 2),
    )
    by_x = (dot(axes[0], by_half[0]), dot(axes[1], by_half[0]), dot(axes[2], by_half[0]))
    by_y = (dot(axes[0], by_half[1]), dot(axes[1], by_half[1]), dot(axes[2], by_half[1]))
    by_u = tl.load(by_pixels + 2 * out, mask=drawn, other=0.0)
    by_v = tl.load(by_pixels + 2 * out + 1, mask=drawn, other=0.0)
    first, by_across, rise_x = _ray_backward(
        by_x, rotation[0], rotation[2], slopes[0], free[0], by_u, fx, inverse
    )
    second, by_down, rise_y = _ray_backward(
        by_y, rotation[1], rotation[2], slopes[1], free[1], by_v, fy, inverse
    )
    by_inverse = rise_x + rise_y + by_across * point[0] + by_down * point[1]
    by_depth = tl.load(by_depths + out, mask=drawn, other=0.0)
    by_point = (
        by_across * inverse,
        by_down * inverse,
        by_depth - by_inverse * inverse * inverse,
    )
    # Gaussians that are not drawn have no gradients to multiply with, but maybe infinite factors
    by_mean = from_camera(rotation, by_point)
    store_vector(by_means, out, _kept(by_mean, drawn), mask)
    by_scale = (
        axes[0][0] * by_axes[0][0] + axes[1][0] * by_axes[1][0] + axes[2][0] * by_axes[2][0],
        axes[0][1] * by_axes[0][1] + axes[1][1] * by_axes[1][1] + axes[2][1] * by_axes[2][1],
        axes[0][2] * by_axes[0][2] + axes[1][2] * by_axes[1][2] + axes[2][2] * by_axes[2][2],
    )
    store_vector(by_scales, out, _kept(by_scale, drawn), mask)
    turned = _quaternion_backward(shape[0], shape[1], shape[2], by_axes)
    for k in tl.static_range(4):
        tl.store(by_quaternions + 4 * out + k, tl.where(drawn, turned[k], 0.0), mask=mask)
    if MOVING:
        at = by_views + (view * tl.num_programs(1) + tl.program_id(1)) * 12
        _store_view(at, mean, by_point, first, second, slopes, drawn)


@triton.jit
def _kept(vector, mask):  # type: ignore[no-untyped-def]
    """Zero where masked."""
    return (
        tl.where(mask, vector[0], 0.0),
        tl.where(mask, vector[1], 0.0),
        tl.where(mask, vector[2], 0.0),
    )


@triton.jit
def _store_view(at, mean, by_point, first, second, slopes, drawn):  # type: ignore[no-untyped-def]
    """Sums over the block of the gradients of the rotation (9) and of the translation (3)."""
    for j in tl.static_range(3):
        x = first[j] + by_point[0] * mean[j]
        y = second[j] + by_point[1] * mean[j]
        z = by_point[2] * mean[j] - first[j] * slopes[0] - second[j] * slopes[1]
        tl.store(at + j, tl.sum(tl.where(drawn, x, 0.0)))
        tl.store(at + 3 + j, tl.sum(tl.where(drawn, y, 0.0)))
        tl.store(at + 6 + j, tl.sum(tl.where(drawn, z, 0.0)))
        tl.store(at + 9 + j, tl.sum(tl.where(drawn, by_point[j], 0.0)))
