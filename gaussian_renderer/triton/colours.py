"""Colours of spherical harmonics as many views see them, forward and backward."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..spherical_harmonics import _C1, _C2, _C3, C0
from .algebra import dot, from_camera, load_vector, load_view, store_vector, to_camera
from .projection import over_views, view_gradient

BLOCK = 128  # Gaussians of one program
_K0, _K1 = tl.constexpr(C0), tl.constexpr(_C1)
_K2, _K3 = tl.constexpr(_C2), tl.constexpr(_C3)


def seen_colours(
    means: Tensor,  # [N, 3]
    sh: Tensor,  # [N, K, 3]
    views: Tensor,  # [B, 4, 4] object to camera
    constant: Tensor | None = None,  # [B, N, 3] in the place of sh[:, 0]; carries no gradient
) -> Tensor:
    """Colours [B, N, 3], not negative; see `spherical_harmonics.sh_colours`."""
    colours: Tensor = _Colours.apply(
        means.contiguous(), sh.contiguous(), views.contiguous(), constant
    )
    return colours


class _Colours(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means: Tensor, sh: Tensor, views: Tensor, constant: Tensor | None
    ) -> Tensor:
        """Colours; where a sum is negative the colour is cut and has no gradient."""
        colours = means.new_empty(len(views), len(means), 3)
        grid = len(views), triton.cdiv(len(means), BLOCK)
        own = sh if constant is None else constant.contiguous()
        _colours[grid](
            means, sh, views, own, colours, len(means),
            TERMS=sh.shape[1], OWN=constant is not None, BLOCK=BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(means, sh, views, colours)
        ctx.own = constant is not None
        return colours

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of coefficients, and through the viewing direction."""
        means, sh, views, colours = ctx.saved_tensors
        grid = len(views), triton.cdiv(len(means), BLOCK)
        by_mean = means.new_empty(len(views), len(means), 3)
        by_sh = sh.new_empty(len(views) if ctx.needs_input_grad[1] else 0, *sh.shape)
        moving = ctx.needs_input_grad[2]
        by_view = means.new_empty(*grid, 12 if moving else 0)
        _colours_backward[grid](
            means, sh, views, colours, upstream[0].contiguous(), by_mean, by_sh, by_view,
            len(means), TERMS=sh.shape[1], STORE=len(by_sh) > 0, MOVING=moving,
            BLOCK=BLOCK,
        )  # fmt: skip
        if ctx.own and len(by_sh):
            by_sh[:, :, 0] = 0.0
        by_view = view_gradient(by_view) if moving else None
        return over_views(by_mean), over_views(by_sh) if len(by_sh) else None, by_view, None


@triton.jit
def basis_of(n):  # type: ignore[no-untyped-def]
    """The 16 functions at unit directions; what is not used costs nothing."""
    x, y, z = n[0], n[1], n[2]
    xx, yy, zz = x * x, y * y, z * z
    return (
        x * 0.0 + _K0,
        y * -_K1,
        z * _K1,
        x * -_K1,
        x * y * _K2[0],
        y * z * _K2[1],
        (2.0 * zz - xx - yy) * _K2[2],
        x * z * _K2[3],
        (xx - yy) * _K2[4],
        y * (3.0 * xx - yy) * _K3[0],
        x * y * z * _K3[1],
        y * (4.0 * zz - xx - yy) * _K3[2],
        z * (2.0 * zz - 3.0 * xx - 3.0 * yy) * _K3[3],
        x * (4.0 * zz - xx - yy) * _K3[4],
        z * (xx - yy) * _K3[5],
        x * (xx - 3.0 * yy) * _K3[6],
    )


@triton.jit
def slopes_of(n):  # type: ignore[no-untyped-def]
    """Derivatives of the 16 functions by the direction, a vector each."""
    x, y, z = n[0], n[1], n[2]
    xx, yy, zz = x * x, y * y, z * z
    o = x * 0.0
    one = o + 1.0
    return (
        (o, o, o),
        (o, one * -_K1, o),
        (o, o, one * _K1),
        (one * -_K1, o, o),
        (y * _K2[0], x * _K2[0], o),
        (o, z * _K2[1], y * _K2[1]),
        (x * -2.0 * _K2[2], y * -2.0 * _K2[2], z * 4.0 * _K2[2]),
        (z * _K2[3], o, x * _K2[3]),
        (x * 2.0 * _K2[4], y * -2.0 * _K2[4], o),
        (x * y * 6.0 * _K3[0], (xx - yy) * 3.0 * _K3[0], o),
        (y * z * _K3[1], x * z * _K3[1], x * y * _K3[1]),
        (x * y * -2.0 * _K3[2], (4.0 * zz - xx - 3.0 * yy) * _K3[2], y * z * 8.0 * _K3[2]),
        (
            x * z * -6.0 * _K3[3],
            y * z * -6.0 * _K3[3],
            (6.0 * zz - 3.0 * xx - 3.0 * yy) * _K3[3],
        ),
        ((4.0 * zz - 3.0 * xx - yy) * _K3[4], x * y * -2.0 * _K3[4], x * z * 8.0 * _K3[4]),
        (x * z * 2.0 * _K3[5], y * z * -2.0 * _K3[5], (xx - yy) * _K3[5]),
        ((xx - yy) * 3.0 * _K3[6], x * y * -6.0 * _K3[6], o),
    )


@triton.jit
def direction_of(rotation, point):  # type: ignore[no-untyped-def]
    """Unit direction from the camera's centre in the object's frame, and 1 / the distance."""
    d = from_camera(rotation, point)
    inverse = 1.0 / tl.maximum(tl.sqrt(dot(d, d)), 1e-12)
    return (d[0] * inverse, d[1] * inverse, d[2] * inverse), inverse


@triton.jit(do_not_specialize=["count"])
def _colours(  # type: ignore[no-untyped-def]
    means, sh, views, own, colours, count,
    TERMS: tl.constexpr, OWN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    view = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < count
    rotation, translation = load_view(views, view)
    point = to_camera(rotation, translation, load_vector(means, rows, mask))
    basis = basis_of(direction_of(rotation, point)[0])
    out = view.to(tl.int64) * count + rows
    first = load_vector(own, out, mask) if OWN else load_vector(sh, rows * TERMS, mask)
    red, green, blue = basis[0] * first[0], basis[0] * first[1], basis[0] * first[2]
    for k in tl.static_range(1, TERMS):
        c = load_vector(sh, rows * TERMS + k, mask)
        red += basis[k] * c[0]
        green += basis[k] * c[1]
        blue += basis[k] * c[2]
    seen = (
        tl.maximum(red + 0.5, 0.0),
        tl.maximum(green + 0.5, 0.0),
        tl.maximum(blue + 0.5, 0.0),
    )
    store_vector(colours, out, seen, mask)


@triton.jit(do_not_specialize=["count"])
def _colours_backward(  # type: ignore[no-untyped-def]
    means, sh, views, colours, by_colours, by_means, by_sh, by_views, count,
    TERMS: tl.constexpr, STORE: tl.constexpr, MOVING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    view = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < count
    rotation, translation = load_view(views, view)
    mean = load_vector(means, rows, mask)
    point = to_camera(rotation, translation, mean)
    unit, inverse = direction_of(rotation, point)
    basis, slopes = basis_of(unit), slopes_of(unit)
    out = view.to(tl.int64) * count + rows
    shown, flow = load_vector(colours, out, mask), load_vector(by_colours, out, mask)
    by = (
        tl.where(shown[0] > 0.0, flow[0], 0.0),
        tl.where(shown[1] > 0.0, flow[1], 0.0),
        tl.where(shown[2] > 0.0, flow[2], 0.0),
    )
    dx, dy, dz = 0.0 * unit[0], 0.0 * unit[0], 0.0 * unit[0]
    for k in tl.static_range(TERMS):
        along = dot(load_vector(sh, rows * TERMS + k, mask), by)
        dx += slopes[k][0] * along
        dy += slopes[k][1] * along
        dz += slopes[k][2] * along
        if STORE:
            grown = (basis[k] * by[0], basis[k] * by[1], basis[k] * by[2])
            store_vector(by_sh, out * TERMS + k, grown, mask)
    radial = dx * unit[0] + dy * unit[1] + dz * unit[2]
    by_d = (
        (dx - unit[0] * radial) * inverse,
        (dy - unit[1] * radial) * inverse,
        (dz - unit[2] * radial) * inverse,
    )
    by_point = (dot(rotation[0], by_d), dot(rotation[1], by_d), dot(rotation[2], by_d))
    store_vector(by_means, out, from_camera(rotation, by_point), mask)
    if MOVING:
        at = by_views + (view * tl.num_programs(1) + tl.program_id(1)) * 12
        for i in tl.static_range(3):
            for j in tl.static_range(3):  # the direction is R^T p, and p is R mean + t
                both = by_d[j] * point[i] + by_point[i] * mean[j]
                tl.store(at + 3 * i + j, tl.sum(tl.where(mask, both, 0.0)))
            tl.store(at + 9 + i, tl.sum(tl.where(mask, by_point[i], 0.0)))
