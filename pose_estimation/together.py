"""Descents of many candidates, of one query or several, in lock step and in few render calls."""

from collections.abc import Sequence

import torch

from gaussian_renderer.contribution import contributions
from gaussian_renderer.pose_problems import PoseProblems
from gaussian_renderer.variants import Variants

from .appearance import expected_constants
from .levenberg_marquardt import Descent, levenberg_marquardt_together
from .problem import LOW, Candidate, Problem
from .pyramid import thinned_logits
from .stages import Request
from .visible import is_visible

_PAIRS_AT_ONCE = 2**21  # of a viewpoint and a Gaussian; bounds the memory


def descend_together(requests: Sequence[Request]) -> list[list[Descent]]:
    """Levenberg-Marquardt from the candidates of every request, all with the same plan.

    All queries must be of one object with one appearance, seen through one lens. The candidates are
    moved to where they end, as by `Problem.descend`; the end is the same up to rounding.
    """
    plan = requests[0].plan
    asked = [(request, candidate) for request in requests for candidate in request.candidates]
    first, level = requests[0].problem, requests[0].problem.level(plan.shrink)
    problems = PoseProblems(
        _variants(asked, plan.shrink),
        level.camera,
        torch.stack([request.problem.level(plan.shrink).image for request, _ in asked]),
        first.model.background,
        huber=first.huber(plan),
        backend=first.settings.backend,
    )
    descents = levenberg_marquardt_together(
        problems,
        torch.stack([candidate.world_to_camera for _, candidate in asked]),
        first.centre,
        first.radius,
        evaluations=plan.evaluations,
        tolerance=plan.tolerance,
    )
    for (request, candidate), descent in zip(asked, descents, strict=True):
        request.problem.record(candidate, descent)
    ends = iter(descents)
    return [[next(ends) for _ in request.candidates] for request in requests]


@torch.no_grad()
def _variants(asked: Sequence[tuple[Request, Candidate]], shrink: int) -> Variants:
    """What of the object each candidate's viewpoint shows, for pixels `shrink` times as large."""
    problem: Problem = asked[0][0].problem
    gaussians, low = problem.model.gaussians, problem.level(LOW)
    poses = torch.stack([candidate.world_to_camera for _, candidate in asked])
    visible = is_visible(contributions(problem.model, low.camera, poses), low)
    logits = gaussians.opacity_logits.expand_as(visible)
    if shrink > 1:
        logits = thinned_logits(gaussians, problem.level(shrink).camera.at(poses), shrink)
    appearance = asked[0][0].appearance
    if appearance is None:
        return Variants(gaussians, visible, logits)
    constants = [
        expected_constants(problem.model, appearance, chunk)
        for chunk in poses.split(max(1, _PAIRS_AT_ONCE // len(gaussians)))
    ]
    return Variants(gaussians, visible, logits, torch.cat(constants))
