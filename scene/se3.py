"""Rigid motions: the exponential map of SE(3), with gradients, and rotations as quaternions.

A twist is xi = (omega, v): rotation vector first, radians, then the linear part in world units.
Formulas are those of Lynch and Park, Modern Robotics, chapter 3; every quotient that is 0/0 at a
zero angle is evaluated by its power series there, so values and gradients stay finite.
"""

import functools

import torch
from torch import Tensor

_SERIES_BELOW = 0.5  # squared angle under which the power series are used, rad^2
_TERMS = 9  # of each series: below the float64 rounding at _SERIES_BELOW


def inverse(transform: Tensor) -> Tensor:
    """The inverse of rigid transforms [..., 4, 4], without a general matrix inversion."""
    rotation = transform[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ transform[..., :3, 3:])
    return _homogeneous(rotation, translation)


def camera_centres(world_to_camera: Tensor) -> Tensor:
    """Positions of cameras in the world [..., 3] from world_to_camera [..., 4, 4]."""
    rotation = world_to_camera[..., :3, :3]
    return -(rotation.transpose(-1, -2) @ world_to_camera[..., :3, 3:])[..., 0]


def hat(vector: Tensor) -> Tensor:
    """Skew-symmetric matrix [..., 3, 3] with hat(a) b = a x b."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(
        *vector.shape[:-1], 3, 3
    )


def adjoint(transform: Tensor) -> Tensor:
    """Ad_T [..., 6, 6] for twists (omega, v): T exp(xi) T^-1 = exp(Ad_T xi)."""
    rotation = transform[..., :3, :3]
    lower = hat(transform[..., :3, 3]) @ rotation
    zero = torch.zeros_like(rotation)
    return torch.cat(
        [torch.cat([rotation, zero], dim=-1), torch.cat([lower, rotation], dim=-1)], dim=-2
    )


def twist_exp(twist: Tensor) -> Tensor:
    """Rigid transforms [..., 4, 4] of twists (omega, v) [..., 6], omega in radians."""
    omega, v = twist[..., :3], twist[..., 3:]
    a, b, c = _exp_coefficients((omega * omega).sum(-1))
    skew = hat(omega)
    square = skew @ skew
    eye = torch.eye(3, dtype=twist.dtype, device=twist.device)
    rotation = eye + a[..., None, None] * skew + b[..., None, None] * square
    left = eye + b[..., None, None] * skew + c[..., None, None] * square
    return _homogeneous(rotation, left @ v[..., None])


def screw_exp(omega: Tensor, v: Tensor, theta: Tensor) -> Tensor:
    """SplatPose eq. 4-6: motion [4, 4] by `theta` along the screw axis (omega, v), each [3].

    The axis is normalised here, so the result is a rotation for any omega. An omega of zero means a
    pure translation by v theta; gradients are finite there.
    """
    tiny = torch.finfo(omega.dtype).tiny ** 0.5
    square = (omega * omega).sum(-1, keepdim=True)
    length = torch.where(square > tiny, square, torch.ones_like(square)).sqrt()
    return twist_exp(torch.cat([omega / length * theta, v * theta], dim=-1))


def quaternion(rotation: Tensor) -> Tensor:
    """Unit quaternions wxyz [..., 4] with w >= 0 of rotation matrices [..., 3, 3].

    Each row below is the quaternion times one of its own entries; the row of the largest entry is
    taken, which is well conditioned for every rotation.
    """
    flat = rotation.flatten(-2).unbind(-1)
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = flat
    rows = torch.stack(
        [
            torch.stack([1 + r00 + r11 + r22, r21 - r12, r02 - r20, r10 - r01], dim=-1),
            torch.stack([r21 - r12, 1 + r00 - r11 - r22, r01 + r10, r02 + r20], dim=-1),
            torch.stack([r02 - r20, r01 + r10, 1 - r00 + r11 - r22, r12 + r21], dim=-1),
            torch.stack([r10 - r01, r02 + r20, r12 + r21, 1 - r00 - r11 + r22], dim=-1),
        ],
        dim=-2,
    )  # [..., 4, 4]
    best = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = rows.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    unit = row / row.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., :1] < 0, -unit, unit)


def _exp_coefficients(square: Tensor) -> tuple[Tensor, ...]:
    """sin(t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3 as functions of t^2."""
    small = square < _SERIES_BELOW
    safe = torch.where(small, torch.ones_like(square), square)
    t = safe.sqrt()
    near = torch.where(small, square, torch.zeros_like(square))
    exact = torch.stack((t.sin() / t, (1 - t.cos()) / safe, (t - t.sin()) / (safe * t)))
    return torch.where(small, _alternating(near), exact).unbind()


def _alternating(square: Tensor) -> Tensor:
    """sum over n of (-t^2)^n / (2n + m)! for m = 1, 2, 3 by Horner's rule, [3, ...]."""
    divisors, last = _divisors(square.dtype, square.device)
    shape = (3, *(1,) * square.dim())
    total = torch.ones(3, *square.shape, dtype=square.dtype, device=square.device)
    for divisor in divisors.unbind():
        total = torch.rsub(square / divisor.reshape(shape) * total, 1)  # half the cost of "1 -"
    return total / last.reshape(shape)


@functools.cache
def _divisors(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What each step of the three series divides by, [_TERMS, 3], and the last one, [3]."""
    steps = [[(2 * n + m) * (2 * n + m - 1) for m in (1, 2, 3)] for n in range(_TERMS, 0, -1)]
    last = torch.tensor([1, 2, 6], dtype=dtype, device=device)
    return torch.tensor(steps, dtype=dtype, device=device), last


def _homogeneous(rotation: Tensor, translation: Tensor) -> Tensor:
    """[..., 4, 4] from rotations [..., 3, 3] and translations [..., 3, 1]."""
    top = torch.cat([rotation, translation], dim=-1)
    last = torch.zeros_like(top[..., :1, :])
    last[..., 3] = 1
    return torch.cat([top, last], dim=-2)
