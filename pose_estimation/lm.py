"""Levenberg-Marquardt on the six pose parameters: the second-order step at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .se3 import hat, twist_exp

_DAMPING_START = 1e-3
_DAMPING_LEAST, _DAMPING_MOST = 1e-7, 1e6
_ACCEPT, _REJECT = 0.2, 8.0  # factors of the damping after a step that helped, or did not
_STRETCH, _STRETCH_MOST = 1.6, 5.0  # factor of the stretch after each step in one direction
_LONGEST = 0.35  # largest step before it is stretched, radians and object radii
_FARTHEST = 2.5  # by that factor at most may the distance change
_SAME_WAY = 0.7  # cosine between two steps that counts as one direction


class Equations(Protocol):
    """What the renderer gives at one pose (see gaussian_renderer.normal_equations)."""

    @property
    def jtj(self) -> Tensor:
        """[6, 6] float64, J^T W J for the left twist (omega, v) in the camera frame."""
        ...

    @property
    def jtr(self) -> Tensor:
        """[6] float64, J^T W r of the residual rendering - query: the gradient of `loss`."""
        ...

    @property
    def loss(self) -> float:
        """The robust cost."""
        ...


@dataclass(frozen=True)
class Descent:
    """The end of a Levenberg-Marquardt run."""

    world_to_camera: Tensor  # [4, 4] float64
    loss: float
    jtj: Tensor  # [6, 6] float64 at that pose, camera frame
    evaluations: int
    converged: bool
    history: tuple[float, ...]  # loss at every accepted pose, the start first


def levenberg_marquardt(
    equations: Callable[[Tensor], Equations],  # at a world_to_camera [4, 4] float64
    start: Tensor,  # [4, 4] float64
    centre: Tensor,  # [3] of the object, world
    radius: float,  # of the object, world units
    *,
    evaluations: int = 12,
    tolerance: float = 1e-5,  # step in radians and object radii at which it has converged
) -> Descent:
    """Minimises the robust cost over world_to_camera by damped Gauss-Newton steps.

    Steps are taken and damped in coordinates about the object's centre, with translations in units
    of its radius: there a turn and a shift are hardly coupled, and the result does not depend on
    the unit of length. Texture finer than the error makes Gauss-Newton steps too short, so that
    many small ones follow each other in one direction; then they are stretched, as long as it pays.
    """
    pose, damping, stretch = start, _DAMPING_START, 1.0
    current = equations(pose)
    history, converged, used = [current.loss], False, 1
    previous = torch.zeros(6, dtype=torch.float64)
    while used < evaluations and not converged and damping <= _DAMPING_MOST:
        change = _object_frame(pose, centre, radius)
        step = _solve(change.T @ current.jtj @ change, change.T @ current.jtr, damping)
        if step is None:
            break
        step = step * min(1.0, _LONGEST / float(step.abs().max().clamp_min(1e-12)))
        trial_pose = twist_exp(change @ step * stretch) @ pose
        if not _sensible(trial_pose, start, centre, radius):
            break
        trial = equations(trial_pose)
        used += 1
        small = float(step.abs().max()) * stretch < tolerance
        if trial.loss < current.loss:
            converged = small
            stretch = min(stretch * _STRETCH, _STRETCH_MOST) if _aligned(step, previous) else 1.0
            damping = max(damping * _ACCEPT, _DAMPING_LEAST)
            pose, current, previous = trial_pose, trial, step
            history.append(current.loss)
        elif stretch > 1:
            stretch = 1.0
        else:
            converged = small
            damping *= _REJECT
    return Descent(pose, current.loss, current.jtj, used, converged, tuple(history))


def _sensible(pose: Tensor, start: Tensor, centre: Tensor, radius: float) -> bool:
    """False when the camera flies away or into the object, as it may before a foreign picture.

    The second would also cost seconds, when splats cover the whole frame.
    """
    first = float(start[2, :3] @ centre + start[2, 3])
    depth = float(pose[2, :3] @ centre + pose[2, 3])
    return max(first / _FARTHEST, radius) < depth < first * _FARTHEST


def _aligned(step: Tensor, previous: Tensor) -> bool:
    """True when two steps [6] point the same way."""
    lengths = float(step.norm() * previous.norm())
    return lengths > 0 and float(step @ previous) > _SAME_WAY * lengths


def _object_frame(pose: Tensor, centre: Tensor, radius: float) -> Tensor:
    """[6, 6]: (turn, shift / radius) about the object's centre to a twist of the camera frame."""
    position = pose[:3, :3] @ centre + pose[:3, 3]
    change = torch.eye(6, dtype=pose.dtype)
    change[3:, :3] = hat(position)
    change[3:, 3:] *= radius
    return change


def _solve(jtj: Tensor, jtr: Tensor, damping: float) -> Tensor | None:
    """The damped step [6], or None when the equations say nothing (no object in the frame)."""
    diagonal = jtj.diagonal()
    largest = float(diagonal.max())
    if not torch.isfinite(jtj).all() or not torch.isfinite(jtr).all() or largest <= 0:
        return None
    damped = jtj + damping * torch.diag(diagonal.clamp_min(1e-6 * largest))
    factor, failed = torch.linalg.cholesky_ex(damped)
    if int(failed):
        return None
    return -torch.cholesky_solve(jtr[:, None], factor)[:, 0]
