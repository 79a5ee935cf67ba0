"""Rigid motions: the exponential map of SE(3) and its inverse, with gradients where they are used.

A twist is xi = (omega, v): rotation vector first, radians, then the linear part in world units.
Formulas are those of Lynch and Park, Modern Robotics, chapter 3; every quotient that is 0/0 at a
zero angle is evaluated by its power series there, so values and gradients stay finite.
"""

import torch
from torch import Tensor

_SERIES_BELOW = 0.5  # squared angle under which the power series are used, rad^2
_TERMS = 9  # of each series: below the float64 rounding at _SERIES_BELOW
# Coefficients of (1 - (t/2) cot(t/2)) / t^2 in powers of t^2: abs(B_2n) / (2n)!
_INVERSE_SERIES = (
    1 / 12, 1 / 720, 1 / 30240, 1 / 1209600, 1 / 47900160, 691 / 1307674368000, 1 / 74724249600,
    3617 / 10670622842880000, 43867 / 5109094217170944000, 174611 / 802857662698291200000,
)  # fmt: skip


def compose(first: Tensor, second: Tensor) -> Tensor:
    """`first` after `second`: a_from_b composed with b_from_c is a_from_c; [..., 4, 4]."""
    return first @ second


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


def twist_log(transform: Tensor) -> Tensor:
    """Twists (omega, v) [..., 6] of rigid transforms [..., 4, 4], with an angle of at most pi."""
    omega = _rotation_log(transform[..., :3, :3])
    skew = hat(omega)
    d = _inverse_coefficient((omega * omega).sum(-1))[..., None, None]
    eye = torch.eye(3, dtype=omega.dtype, device=omega.device)
    v = (eye - 0.5 * skew + d * (skew @ skew)) @ transform[..., :3, 3:]
    return torch.cat([omega, v[..., 0]], dim=-1)


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


def _rotation_log(rotation: Tensor) -> Tensor:
    """Rotation vectors [..., 3] of rotation matrices [..., 3, 3]."""
    w, xyz = quaternion(rotation).split([1, 3], dim=-1)
    square = (xyz * xyz).sum(-1, keepdim=True)
    small = square < 1e-6
    sine = torch.where(small, torch.ones_like(square), square).sqrt()
    ratio = square / (w * w).clamp_min(0.5)  # tan^2 of half the angle; used where it is small
    series = 2 / w.clamp_min(0.5) * (1 - ratio / 3 + ratio * ratio / 5)
    return xyz * torch.where(small, series, 2 * torch.atan2(sine, w) / sine)


def _exp_coefficients(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(t)/t, (1 - cos t)/t^2 and (t - sin t)/t^3 as functions of t^2."""
    small = square < _SERIES_BELOW
    safe = torch.where(small, torch.ones_like(square), square)
    t = safe.sqrt()
    near = torch.where(small, square, torch.zeros_like(square))
    exact = (t.sin() / t, (1 - t.cos()) / safe, (t - t.sin()) / (safe * t))
    a, b, c = (
        torch.where(small, _alternating(near, first), value) for first, value in enumerate(exact)
    )
    return a, b, c


def _alternating(square: Tensor, first: int) -> Tensor:
    """sum over n of (-t^2)^n / (2n + 1 + first)! by Horner's rule."""
    total = torch.ones_like(square)
    for n in range(_TERMS, 0, -1):
        k = 2 * n + 1 + first
        total = torch.rsub(square / (k * (k - 1)) * total, 1)  # half the overhead of "1 -"
    return total / (1, 1, 2, 6)[first + 1]


def _inverse_coefficient(square: Tensor) -> Tensor:
    """(1 - (t/2) cot(t/2)) / t^2 as a function of t^2."""
    small = square < _SERIES_BELOW
    safe = torch.where(small, torch.ones_like(square), square)
    half = 0.5 * safe.sqrt()
    near = torch.where(small, square, torch.zeros_like(square))
    series = torch.zeros_like(square)
    for coefficient in reversed(_INVERSE_SERIES):
        series = coefficient + near * series
    return torch.where(small, series, (1 - half * half.cos() / half.sin()) / safe)


def _homogeneous(rotation: Tensor, translation: Tensor) -> Tensor:
    """[..., 4, 4] from rotations [..., 3, 3] and translations [..., 3, 1]."""
    top = torch.cat([rotation, translation], dim=-1)
    last = torch.zeros_like(top[..., :1, :])
    last[..., 3] = 1
    return torch.cat([top, last], dim=-2)
