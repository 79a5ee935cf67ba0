"""How each splat moves with the pose: forward-mode derivatives by the six components of a twist
(omega, v) that is applied to the view from the left, exp(twist) view."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from scene import Camera, Gaussians

from .algebra import dot, half_of, load_vector, load_view, see, slope_row, to_camera
from .colours import direction_of, slopes_of
from .projection import BLOCK, lens

ROWS = 8  # numbers of a Gaussian for each component
TWIST = 6
_ROWS, _TWIST = tl.constexpr(ROWS), tl.constexpr(TWIST)


@torch.no_grad()
def tangents(
    gaussians: Gaussians,
    views: Tensor,  # [B, 4, 4] object to camera
    opacities: Tensor,  # [B, N]; where they are 0, nothing is computed
    colours: Tensor,  # [B, N, 3] as seen; where they are cut at 0 they do not move
    camera: Camera,
) -> Tensor:
    """Derivatives by each component, [B, N, 8, 6]: x, y, xx, xy, yy, red, green, blue.

    d ln(alpha) = (xx dx + xy dy + x) dx + (yy dy + y) dy, with (dx, dy) from pixel to mean.
    """
    means, sh = gaussians.means.contiguous(), gaussians.sh.contiguous()
    table = means.new_zeros(len(views), len(means), ROWS, TWIST)
    grid = len(views), triton.cdiv(len(means), BLOCK)
    _move[grid](
        means, gaussians.log_scales.contiguous(), gaussians.quaternions.contiguous(),
        views.contiguous(), opacities.contiguous(), table, len(means), *lens(camera), BLOCK=BLOCK,
    )  # fmt: skip
    if sh.shape[1] > 1:
        _recolour[grid](
            means, sh, views.contiguous(), opacities.contiguous(), colours.contiguous(), table,
            len(means), TERMS=sh.shape[1], BLOCK=BLOCK,
        )  # fmt: skip
    return table


@triton.jit
def _cross(k: tl.constexpr, x, y, z):  # type: ignore[no-untyped-def]
    """Unit vector k times (x, y, z); also of the rows of a matrix, given as vectors."""
    zero = 0.0 * x
    if k == 0:
        return (zero, -z, y)
    elif k == 1:
        return (z, zero, -x)
    else:
        return (-y, x, zero)


@triton.jit
def _motion(component: tl.constexpr, point, rotation):  # type: ignore[no-untyped-def]
    """Derivatives of the camera-frame point and of the rotation's rows along one component."""
    zero = 0.0 * point[0]
    none = (0.0 * rotation[0][0], 0.0 * rotation[0][0], 0.0 * rotation[0][0])
    if component >= 3:
        one = zero + 1.0
        moved = (
            one if component == 3 else zero,
            one if component == 4 else zero,
            one if component == 5 else zero,
        )
        return moved, (none, none, none)
    else:
        moved = _cross(component, point[0], point[1], point[2])
        first = _cross(component, rotation[0][0], rotation[1][0], rotation[2][0])
        second = _cross(component, rotation[0][1], rotation[1][1], rotation[2][1])
        third = _cross(component, rotation[0][2], rotation[1][2], rotation[2][2])
        return moved, (
            (first[0], second[0], third[0]),
            (first[1], second[1], third[1]),
            (first[2], second[2], third[2]),
        )


@triton.jit
def _push_row(  # type: ignore[no-untyped-def]
    r: tl.constexpr, point, inverse, slopes, free, jacobian, rotation, focal, moved, turned
):
    """Derivatives of one coordinate of the pixel, and of its row of the Jacobian."""
    by_inverse = -inverse * inverse * moved[2]
    ratio = moved[r] * inverse + point[r] * by_inverse
    slope = tl.where(free[r], ratio, 0.0)
    factor, grown = focal * inverse, by_inverse * point[2]
    first = slope_row(turned[r], turned[2], slopes[r], factor)
    row = (
        first[0] + jacobian[r][0] * grown - factor * slope * rotation[2][0],
        first[1] + jacobian[r][1] * grown - factor * slope * rotation[2][1],
        first[2] + jacobian[r][2] * grown - factor * slope * rotation[2][2],
    )
    return focal * ratio, row


@triton.jit(do_not_specialize=["count"])
def _move(  # type: ignore[no-untyped-def]
    means, log_scales, quaternions, views, opacities, table,
    count, fx, fy, width, height, BLOCK: tl.constexpr,
):  # fmt: skip
    view = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < count
    rotation, _, placed, _, axes, half, conic, _, drawn = see(
        means, log_scales, quaternions, views, view, rows, mask, fx, fy, width, height
    )
    point, inverse, slopes, free, jacobian, _ = placed
    a, b, c = conic[0], conic[1], conic[2]
    out = view.to(tl.int64) * count + rows
    drawn = drawn & (tl.load(opacities + out, mask=mask, other=0.0) > 0.0)
    for k in tl.static_range(_TWIST):
        moved, turned = _motion(k, point, rotation)
        du, row_x = _push_row(
            0, point, inverse, slopes, free, jacobian, rotation, fx, moved, turned
        )
        dv, row_y = _push_row(
            1, point, inverse, slopes, free, jacobian, rotation, fy, moved, turned
        )
        change = half_of((row_x, row_y), axes)
        xx, yy = 2.0 * dot(half[0], change[0]), 2.0 * dot(half[1], change[1])
        xy = dot(half[0], change[1]) + dot(half[1], change[0])
        p, q = a * xx + b * xy, a * xy + b * yy  # rows of conic d(covariance)
        r, s = b * xx + c * xy, b * xy + c * yy
        at = table + out * (_ROWS * _TWIST) + k
        tl.store(at, -(a * du + b * dv), mask=drawn)
        tl.store(at + _TWIST, -(b * du + c * dv), mask=drawn)
        tl.store(at + 2 * _TWIST, 0.5 * (p * a + q * b), mask=drawn)
        tl.store(at + 3 * _TWIST, p * b + q * c, mask=drawn)
        tl.store(at + 4 * _TWIST, 0.5 * (r * b + s * c), mask=drawn)


@triton.jit(do_not_specialize=["count"])
def _recolour(  # type: ignore[no-untyped-def]
    means, sh, views, opacities, colours, table, count, TERMS: tl.constexpr, BLOCK: tl.constexpr
):
    """The object sees the camera move, by the shift alone: colours change with v, not omega."""
    view = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < count
    rotation, translation = load_view(views, view)
    point = to_camera(rotation, translation, load_vector(means, rows, mask))
    unit, inverse = direction_of(rotation, point)
    slopes = slopes_of(unit)
    out = view.to(tl.int64) * count + rows
    drawn = mask & (tl.load(opacities + out, mask=mask, other=0.0) > 0.0)
    for c in tl.static_range(3):
        dx, dy, dz = 0.0 * unit[0], 0.0 * unit[0], 0.0 * unit[0]
        for k in tl.static_range(1, TERMS):
            coefficient = tl.load(sh + (rows * TERMS + k) * 3 + c, mask=mask, other=0.0)
            dx += slopes[k][0] * coefficient
            dy += slopes[k][1] * coefficient
            dz += slopes[k][2] * coefficient
        radial = dx * unit[0] + dy * unit[1] + dz * unit[2]
        by_d = (
            (dx - unit[0] * radial) * inverse,
            (dy - unit[1] * radial) * inverse,
            (dz - unit[2] * radial) * inverse,
        )
        shown = drawn & (tl.load(colours + out * 3 + c, mask=mask, other=0.0) > 0.0)
        at = table + out * (_ROWS * _TWIST) + (5 + c) * _TWIST + 3
        for i in tl.static_range(3):
            tl.store(at + i, dot(rotation[i], by_d), mask=shown)
