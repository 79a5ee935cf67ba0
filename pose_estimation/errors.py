"""How far an estimated pose is from the true one."""

import torch
from torch import Tensor

from scene.se3 import camera_centres, quaternion


def rotation_error(estimated: Tensor, true: Tensor) -> Tensor:
    """Angle between the rotations of two poses [..., 4, 4] (or [..., 3, 3]), radians in [0, pi].

    SplatPose eq. 8, 2 arccos(abs(q1 . q2)), written with arctan2, which keeps its digits near zero.
    """
    first = quaternion(estimated[..., :3, :3].double())
    second = quaternion(true[..., :3, :3].double())
    opposite = (first * second).sum(-1, keepdim=True) < 0
    second = torch.where(opposite, -second, second)
    return 4 * torch.atan2((first - second).norm(dim=-1), (first + second).norm(dim=-1))


def translation_error(estimated: Tensor, true: Tensor) -> Tensor:
    """Euclidean distance of the camera centres of two world_to_camera [..., 4, 4], world units."""
    return (camera_centres(estimated.double()) - camera_centres(true.double())).norm(dim=-1)
