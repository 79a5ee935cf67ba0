"""How far poses are from each other, in angle, in distance and in pixels; and in one frame."""

import torch
from torch import Tensor

from scene import Camera
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


def align_poses(
    poses: Tensor,  # [V, 4, 4] float64 world_to_camera, in a frame of their own
    reference: Tensor,  # [V, 4, 4] the same cameras in the frame that is wanted
    trusted: Tensor | None = None,  # [V] bool: whose reference says what frame that is
) -> Tensor:
    """The poses in the frame of the reference, [V, 4, 4].

    Poses that were found together with a model are free by a similarity: turn, scale and shift of
    the world. The turn is the mean over the cameras, scale and shift are those that bring the
    centres together (Umeyama 1991, with the rotation given).
    """
    rotations = poses[:, :3, :3]
    used = torch.ones(len(poses), dtype=torch.bool) if trusted is None else trusted
    correlation = (rotations.transpose(1, 2) @ reference[:, :3, :3])[used].sum(dim=0)
    u, _, vt = torch.linalg.svd(correlation)
    signs = torch.ones(3, dtype=poses.dtype)
    signs[2] = torch.linalg.det(u @ vt)
    turn = (u @ torch.diag(signs) @ vt).T  # world of the poses to that of the reference
    ours = camera_centres(poses) @ turn.T
    theirs = camera_centres(reference)
    from_mean, middle = ours - ours[used].mean(dim=0), theirs[used].mean(dim=0)
    spread = from_mean[used].square().sum()
    scale = (from_mean * (theirs - middle))[used].sum() / spread if spread > 0 else 1.0
    centres = scale * from_mean + middle
    aligned = reference.clone()
    aligned[:, :3, :3] = rotations @ turn.T
    aligned[:, :3, 3] = -(aligned[:, :3, :3] @ centres[:, :, None])[:, :, 0]
    return aligned


def reprojection_shift(
    points: Tensor,  # [N, 3] of the object
    first: Camera,
    second: Camera,  # with the same lens
) -> float:
    """How far the object moves in the image from one camera to the other: median, pixels."""
    x1, y1, depth1 = first.project(points)
    x2, y2, depth2 = second.project(points)
    visible = (depth1 > 0) & (depth2 > 0)
    if not bool(visible.any()):
        return float("inf")
    return float(torch.hypot(x1 - x2, y1 - y2)[visible].median())
