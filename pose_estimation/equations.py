"""What Levenberg-Marquardt asks the renderer for, of many candidates at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from gaussian_renderer import (
    NormalEquations,
    ObjectRenderer,
    PoseProblems,
    pose_normal_equations,
    renders_many,
)

from .levenberg_marquardt import Equations
from .multiscale import ExpectedResidual, Level, seen_from, seen_from_many, thinned


def pose_equations(
    model: ObjectRenderer,
    level: Level,
    low: Level,  # at which to find out what is visible
    poses: Tensor,  # [M, 4, 4] world_to_camera, where the candidates start
    query: Tensor,  # [M] before which image of the level each stands
    huber: float,
    expected_residual: ExpectedResidual | None = None,
) -> Callable[[Tensor, Tensor], Equations]:
    """The equations of some candidates [K] at poses [K, 4, 4], for one descent.

    What each candidate shows of the object is found out once, where it starts. A backend that
    renders many views takes them in one call, another one after the other.
    """
    if renders_many(model.backend, model.gaussians.means.device):
        variants = seen_from_many(model, poses, level, low, expected_residual)
        targets = level.images[query.to(level.images.device, non_blocking=True)]
        problems = PoseProblems(
            variants, level.camera, targets, model.background, huber=huber, backend=model.backend
        )
        return lambda active, at: _stacked(problems(active.tolist(), at))
    seen = [seen_from(model, pose, level, low, expected_residual) for pose in poses]
    images = [level.images[number] for number in query.tolist()]

    def one_by_one(active: Tensor, at: Tensor) -> Equations:
        return _stacked([
            pose_normal_equations(
                seen[number].gaussians, level.camera.at(pose), images[number], model.background,
                huber=huber, backend=model.backend, threads=model.threads,
            )
            for number, pose in zip(active.tolist(), at, strict=True)
        ])  # fmt: skip

    return one_by_one


def rough_equations(
    model: ObjectRenderer,
    level: Level,
    poses: Tensor,  # [M, 4, 4] world_to_camera, where the candidates start
    query: Tensor,  # [M] before which image of the level each stands
    huber: float,
) -> Callable[[Tensor, Tensor], Equations]:
    """`pose_equations` of many candidates for a few steps at very low resolution.

    What each of them shows would cost more to find out than it saves, so all Gaussians take part,
    thinned for the first candidate.
    """
    if renders_many(model.backend, model.gaussians.means.device):
        return pose_equations(model, level, level, poses, query, huber)
    gaussians = thinned(model, poses[0], level).gaussians
    images = [level.images[number] for number in query.tolist()]

    def one_by_one(active: Tensor, at: Tensor) -> Equations:
        return _stacked([
            pose_normal_equations(
                gaussians, level.camera.at(pose), images[number], model.background,
                huber=huber, backend=model.backend, threads=model.threads,
            )
            for number, pose in zip(active.tolist(), at, strict=True)
        ])  # fmt: skip

    return one_by_one


def _stacked(found: list[NormalEquations]) -> Equations:
    return Equations(
        torch.stack([each.jtj for each in found]),
        torch.stack([each.jtr for each in found]),
        torch.tensor([each.loss for each in found], dtype=torch.float64),
    )
