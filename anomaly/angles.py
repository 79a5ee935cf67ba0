"""How far apart cameras look."""

import torch
from torch import Tensor


def view_angles(
    rotations: Tensor,  # [V, 3, 3] world to camera
    rotation: Tensor,  # [..., 3, 3]
    roll_weight: float = 1.0,
) -> Tensor:
    """Angles between views and queries, radians, [..., V].

    With `roll_weight` 1 that of the relative rotation, with 0 that of the optical axes (never
    larger), in between their blend in squares.
    """
    ours = rotation.detach().to("cpu", torch.float64)
    trace = (rotations * ours[..., None, :, :]).sum(dim=(-2, -1))
    full = (((trace - 1.0) / 2.0).clamp(-1.0, 1.0)).acos()
    axes = (rotations[:, 2] @ ours[..., 2, :, None])[..., 0].clamp(-1.0, 1.0).acos()
    return (axes.square() * (1.0 - roll_weight) + full.square() * roll_weight).sqrt()
