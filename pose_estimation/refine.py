"""From coarse hypotheses to poses: of one query, or of many whose descents go in lock step."""

import time
from collections.abc import Sequence

from torch import Tensor

from gaussian_renderer.batch import renders_many
from scene import Camera, Gaussians, InputError

from .appearance import Appearance
from .hypotheses import Hypothesis
from .lm import Descent
from .pose_check import PoseCheck
from .problem import Problem
from .settings import PoseEstimate, PoseSettings
from .stages import PLANS, Outcome, Request, Stages, by_levels, by_screw
from .together import descend_together


def estimate_pose(
    gaussians: Gaussians,
    camera: Camera,  # the query's lens and size; its pose is not used
    image: Tensor,  # [3, H, W] in 0..1
    hypotheses: Sequence[Hypothesis],
    background: Tensor,  # [3]
    settings: PoseSettings | None = None,
    check: PoseCheck | None = None,
    appearance: Appearance | None = None,
) -> PoseEstimate:
    """Refines the best of the hypotheses until the rendering fits the query.

    With a `check` (see `calibrate_pose_check`) the estimate says whether it can be trusted. Under
    "auto" a doubtful pose gets a second try with Adam from the first hypotheses. Known residuals
    of the object (`appearance`) keep its gloss from moving the pose; adam does not use them.

    Raises InputError when there is no hypothesis or the image does not have the camera's size.
    """
    settings = settings or PoseSettings()
    _check_query(camera, image, hypotheses)
    began = time.perf_counter()
    problem = Problem(gaussians, camera, image, background, settings)
    if settings.method == "adam":
        outcome = by_screw(problem, hypotheses)
    else:
        outcome = _alone(by_levels(problem, hypotheses, check, appearance))
    return _estimate(problem, outcome, check, time.perf_counter() - began)


def estimate_poses(
    gaussians: Gaussians,
    camera: Camera,  # lens and size of all queries
    images: Sequence[Tensor],  # B of [3, H, W] in 0..1
    hypotheses: Sequence[Sequence[Hypothesis]],  # of each of them
    background: Tensor,  # [3]
    settings: PoseSettings | None = None,
    check: PoseCheck | None = None,
    appearance: Appearance | None = None,
) -> list[PoseEstimate]:
    """`estimate_pose` for B queries of one object, their descents in lock step.

    Where the backend renders many views in a call, descents of all hypotheses and queries go in
    lock step. Every query goes through the stages that it would go through alone, and a pose that
    the picture determines ends the same up to rounding. Adam's second tries run one after another,
    as does everything on other backends. `seconds` are those of the batch, in equal shares.

    Raises InputError as `estimate_pose`.
    """
    settings = settings or PoseSettings()
    for image, guesses in zip(images, hypotheses, strict=True):
        _check_query(camera, image, guesses)
    if settings.method == "adam" or not renders_many(settings.backend, gaussians.means.device):
        common = (background, settings, check, appearance)
        return [
            estimate_pose(gaussians, camera, image, guesses, *common)
            for image, guesses in zip(images, hypotheses, strict=True)
        ]
    began = time.perf_counter()
    problems = [Problem(gaussians, camera, image, background, settings) for image in images]
    outcomes = _in_lock_step(
        [
            by_levels(problem, guesses, check, appearance)
            for problem, guesses in zip(problems, hypotheses, strict=True)
        ]
    )
    share = (time.perf_counter() - began) / max(1, len(images))
    return [
        _estimate(problem, outcome, check, share)
        for problem, outcome in zip(problems, outcomes, strict=True)
    ]


def _alone(stages: Stages[Outcome]) -> Outcome:
    """Runs the stages of one query, descent after descent."""
    descents: list[Descent] | None = None
    try:
        while True:
            request = next(stages) if descents is None else stages.send(descents)
            problem, plan = request.problem, request.plan
            descents = [
                problem.descend(
                    candidate, plan, problem.visible_from(candidate, request.appearance)
                )
                for candidate in request.candidates
            ]
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def _in_lock_step(queries: Sequence[Stages[Outcome]]) -> list[Outcome]:
    """Runs the stages of many queries; those that wait for the earliest plan go on together."""
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, Request] = {}

    def advance(number: int, descents: list[Descent] | None) -> None:
        stages = queries[number]
        try:
            waiting[number] = next(stages) if descents is None else stages.send(descents)
        except StopIteration as end:
            outcomes[number] = end.value

    for number in range(len(queries)):
        advance(number, None)
    while waiting:
        plan = min((request.plan for request in waiting.values()), key=PLANS.index)
        numbers = [number for number, request in waiting.items() if request.plan == plan]
        for number, descents in zip(
            numbers, descend_together([waiting.pop(n) for n in numbers]), strict=True
        ):
            advance(number, descents)
    return [outcomes[number] for number in range(len(queries))]


def _check_query(camera: Camera, image: Tensor, hypotheses: Sequence[Hypothesis]) -> None:
    """Raises InputError when there is no hypothesis or the image is not of the camera's size."""
    if not hypotheses:
        raise InputError("no coarse pose to start from: check that the gallery has train views")
    if tuple(image.shape) != (3, camera.height, camera.width):
        raise InputError(
            f"the query has shape {tuple(image.shape)}, its camera wants "
            f"(3, {camera.height}, {camera.width}): resize the image"
        )


def _estimate(
    problem: Problem, outcome: Outcome, check: PoseCheck | None, seconds: float
) -> PoseEstimate:
    """What is told of a finished refinement."""
    return PoseEstimate(
        world_to_camera=outcome.candidate.world_to_camera,
        loss=outcome.loss,
        steps=problem.steps,
        hypothesis=outcome.candidate.hypothesis,
        pose_ok=None if check is None else check.accepts(outcome.evidence),
        covariance=outcome.covariance,
        evidence=outcome.evidence,
        seconds={"refine": seconds},
        history=outcome.history,
    )
