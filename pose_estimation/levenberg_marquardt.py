"""Levenberg-Marquardt on the six parameters of each of M poses: the second-order descent.

The poses descend in lock step, each by its own damping, and drop out as they end.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scene.se3 import hat, twist_exp

_DAMPING_START = 1e-3
_DAMPING_LEAST, _DAMPING_MOST = 1e-7, 1e6
_ACCEPT, _REJECT = 0.2, 8.0  # factors of the damping after a step that helped, or did not
_STRETCH, _STRETCH_MOST = 1.6, 5.0  # factor of the stretch after each step in one direction
_SAME_WAY = 0.7  # cosine between two steps that counts as one direction
_LONGEST = 0.35  # largest step before it is stretched, radians and object radii
_FARTHEST = 2.5  # by that factor at most may the distance change


class Equations(NamedTuple):
    """What the renderer tells at K poses (see gaussian_renderer.normal_equations)."""

    jtj: Tensor  # [K, 6, 6] float64, J^T W J for the left twist (omega, v) in the camera frame
    jtr: Tensor  # [K, 6] float64, J^T W r of the residual rendering - query: gradient of the loss
    loss: Tensor  # [K] float64, the robust cost


class Descent(NamedTuple):
    """Where M runs ended."""

    world_to_camera: Tensor  # [M, 4, 4] float64
    loss: Tensor  # [M]
    jtj: Tensor  # [M, 6, 6] at those poses, camera frame
    evaluations: Tensor  # [M] int64
    converged: Tensor  # [M] bool


def levenberg_marquardt(
    equations: Callable[[Tensor, Tensor], Equations],  # of the problems [K], at poses [K, 4, 4]
    start: Tensor,  # [M, 4, 4] float64 world_to_camera
    centre: Tensor,  # [3] of the object, world
    radius: float,  # of the object, world units
    *,
    evaluations: int = 12,  # of the equations for each pose, at most
    tolerance: float = 1e-5,  # step in radians and object radii at which a pose has converged
) -> Descent:
    """Minimises M robust costs over world_to_camera by damped Gauss-Newton steps.

    Steps are taken and damped in coordinates about the object's centre, with translations in units
    of its radius: there a turn and a shift are hardly coupled, and the result does not depend on
    the unit of length. Texture finer than the error makes Gauss-Newton steps too short, so that
    many small ones follow each other in one direction; then they are stretched, as long as it pays.
    """
    runs = _started(start, equations(torch.arange(len(start)), start), centre)
    used, ended = 1, []  # all that go on have used as many evaluations
    while len(runs.number) and used < evaluations:
        step, moved, possible = _propose(runs, centre, radius)
        if not bool(possible.all()):
            ended.append((runs.at(~possible), used))
            runs, step, moved = runs.at(possible), step[possible], moved[possible]
        if len(runs.number):
            used += 1
            runs = _taken(runs, step, moved, equations(runs.number, moved), tolerance)
        over = runs.converged | (runs.damping > _DAMPING_MOST)
        if bool(over.any()):
            ended.append((runs.at(over), used))
            runs = runs.at(~over)
    return _in_order([*ended, (runs, used)])


class _Runs(NamedTuple):
    """K minimisations that go on."""

    number: Tensor  # [K] among all M
    pose: Tensor  # [K, 4, 4]
    jtj: Tensor  # [K, 6, 6] there, as in Equations
    jtr: Tensor
    loss: Tensor
    damping: Tensor  # [K]
    stretch: Tensor  # [K]
    previous: Tensor  # [K, 6] the last step that helped
    converged: Tensor  # [K] bool
    start_depth: Tensor  # [K] of the object's centre

    def at(self, mask: Tensor) -> "_Runs":
        """Those of a mask [K]."""
        return _Runs(*(part[mask] for part in self))


def _started(start: Tensor, first: Equations, centre: Tensor) -> _Runs:
    count = len(start)
    return _Runs(
        number=torch.arange(count),
        pose=start,
        jtj=first.jtj,
        jtr=first.jtr,
        loss=first.loss,
        damping=torch.full((count,), _DAMPING_START, dtype=torch.float64),
        stretch=torch.ones(count, dtype=torch.float64),
        previous=torch.zeros(count, 6, dtype=torch.float64),
        converged=torch.zeros(count, dtype=torch.bool),
        start_depth=_depth(start, centre),
    )


def _propose(runs: _Runs, centre: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """The next steps [K, 6] before they are stretched, where they lead [K, 4, 4], and whether.

    A step is not possible when the equations say nothing, or when it leads astray.
    """
    change = _object_frame(runs.pose, centre, radius)
    jtr = _times(change.mT, runs.jtr)
    step, solved = _solve(change.mT @ runs.jtj @ change, jtr, runs.damping)
    step = step * (_LONGEST / step.abs().amax(-1).clamp_min(1e-12)).clamp_max(1.0)[:, None]
    moved = twist_exp(_times(change, step) * runs.stretch[:, None]) @ runs.pose
    # The camera may fly away or into the object before a foreign image. The second would also cost
    # seconds, when splats cover the whole frame.
    depth = _depth(moved, centre)
    near = (runs.start_depth / _FARTHEST).clamp_min(radius)
    return step, moved, solved & (near < depth) & (depth < runs.start_depth * _FARTHEST)


def _taken(runs: _Runs, step: Tensor, moved: Tensor, found: Equations, tolerance: float) -> _Runs:
    """Where the steps that helped lead; after the others the next one is shorter."""
    helped, was_stretched = found.loss < runs.loss, runs.stretch > 1
    one, matrix = helped[:, None], helped[:, None, None]
    onwards = helped & _same_way(step, runs.previous)
    longer = (runs.stretch * _STRETCH).clamp_max(_STRETCH_MOST)
    less = (runs.damping * _ACCEPT).clamp_min(_DAMPING_LEAST)
    more = torch.where(was_stretched, runs.damping, runs.damping * _REJECT)
    small = step.abs().amax(-1) * runs.stretch < tolerance
    return runs._replace(
        pose=torch.where(matrix, moved, runs.pose),
        jtj=torch.where(matrix, found.jtj, runs.jtj),
        jtr=torch.where(one, found.jtr, runs.jtr),
        loss=torch.where(helped, found.loss, runs.loss),
        damping=torch.where(helped, less, more),
        stretch=torch.where(onwards, longer, 1.0),
        previous=torch.where(one, step, runs.previous),
        converged=small & (helped | ~was_stretched),
    )


def _in_order(ended: Sequence[tuple[_Runs, int]]) -> Descent:
    """The ends of all runs, by their numbers, from groups that used as many evaluations."""
    all_ = _Runs(*map(torch.cat, zip(*(runs for runs, _ in ended), strict=True)))
    used = torch.cat([torch.full_like(runs.number, count) for runs, count in ended])
    order = all_.number.argsort()
    parts = (all_.pose, all_.loss, all_.jtj, used, all_.converged)
    return Descent(*(part[order] for part in parts))


def _depth(pose: Tensor, centre: Tensor) -> Tensor:
    """Camera z [K] of a point [3] of the world."""
    return (pose[:, 2, :3] * centre).sum(-1) + pose[:, 2, 3]


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """[K, 6, 6] by [K, 6]."""
    return (matrix @ vector[..., None])[..., 0]


def _object_frame(pose: Tensor, centre: Tensor, radius: float) -> Tensor:
    """[K, 6, 6]: (turn, shift / radius) about the object's centre to a twist of the camera."""
    position = pose[:, :3, :3] @ centre + pose[:, :3, 3]
    change = torch.eye(6, dtype=pose.dtype).repeat(len(pose), 1, 1)
    change[:, 3:, :3] = hat(position)
    change[:, 3:, 3:] *= radius
    return change


def _solve(jtj: Tensor, jtr: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """The damped steps [K, 6]; False where the equations say nothing (no object in the frame)."""
    diagonal = jtj.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(-1)
    floor = torch.maximum(diagonal, 1e-6 * largest[:, None])
    factor, failed = torch.linalg.cholesky_ex(jtj + torch.diag_embed(damping[:, None] * floor))
    step = -torch.cholesky_solve(jtr[..., None], factor)[..., 0]
    finite = jtj.flatten(1).isfinite().all(-1) & jtr.isfinite().all(-1)
    return step, finite & (largest > 0) & (failed == 0)


def _same_way(step: Tensor, previous: Tensor) -> Tensor:
    """Whether two steps [K, 6] point the same way, [K]."""
    lengths = step.norm(dim=-1) * previous.norm(dim=-1)
    return (lengths > 0) & ((step * previous).sum(-1) > _SAME_WAY * lengths)
