"""One damped Gauss-Newton step of the pose, for one problem or, with leading dimensions, many."""

from typing import NamedTuple

import torch
from torch import Tensor

from scene.se3 import hat, twist_exp

_LONGEST = 0.35  # largest step before it is stretched, radians and object radii
_FARTHEST = 2.5  # by that factor at most may the distance change


class Move(NamedTuple):
    """A step that may be taken."""

    pose: Tensor  # [..., 4, 4] to which it leads
    step: Tensor  # [..., 6] before it is stretched: turn, shift / radius about the object's centre
    possible: Tensor  # [...] bool: False when the equations say nothing, or it leads astray


def propose(
    pose: Tensor,  # [..., 4, 4]
    jtj: Tensor,  # [..., 6, 6]
    jtr: Tensor,  # [..., 6]
    damping: Tensor,  # [...]
    stretch: Tensor,  # [...]
    start_depth: Tensor,  # [...] of the object's centre, see `depth_of`
    centre: Tensor,  # [3]
    radius: float,
) -> Move:
    """The next step from a pose."""
    change = _object_frame(pose, centre, radius)
    step, solved = _solve(change.mT @ jtj @ change, _times(change.mT, jtr), damping)
    step = step * (_LONGEST / step.abs().amax(-1).clamp_min(1e-12)).clamp_max(1.0)[..., None]
    moved = twist_exp(_times(change, step) * stretch[..., None]) @ pose
    # The camera may fly away or into the object before a foreign picture. The second would also
    # cost seconds, when splats cover the whole frame.
    depth = depth_of(moved, centre)
    near = (start_depth / _FARTHEST).clamp_min(radius)
    return Move(moved, step, solved & (near < depth) & (depth < start_depth * _FARTHEST))


def depth_of(pose: Tensor, centre: Tensor) -> Tensor:
    """Camera z of a point [3] of the world, [...]."""
    return pose[..., 2, :3] @ centre + pose[..., 2, 3]


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """[..., 6, 6] by [..., 6]."""
    return matrix @ vector if vector.dim() == 1 else (matrix @ vector[..., None])[..., 0]


def _object_frame(pose: Tensor, centre: Tensor, radius: float) -> Tensor:
    """[..., 6, 6]: (turn, shift / radius) about the object's centre to a twist of the camera."""
    position = pose[..., :3, :3] @ centre + pose[..., :3, 3]
    change = torch.eye(6, dtype=pose.dtype).expand(*pose.shape[:-2], 6, 6).clone()
    change[..., 3:, :3] = hat(position)
    change[..., 3:, 3:] *= radius
    return change


def _solve(jtj: Tensor, jtr: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """The damped step [..., 6]; False where the equations say nothing (no object in the frame)."""
    diagonal = jtj.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(-1)
    floor = torch.maximum(diagonal, 1e-6 * largest[..., None])
    factor, failed = torch.linalg.cholesky_ex(jtj + torch.diag_embed(damping[..., None] * floor))
    step = -torch.cholesky_solve(jtr[..., None], factor)[..., 0]
    finite = jtj.flatten(-2).isfinite().all(-1) & jtr.isfinite().all(-1)
    return step, finite & (largest > 0) & (failed == 0)
