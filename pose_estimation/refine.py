"""From coarse hypotheses to poses: of one query, or of many whose descents go in lock step."""

import time
from collections.abc import Sequence

from torch import Tensor

from gaussian_renderer.batch import renders_many
from scene import Camera, Gaussians, InputError

from .appearance import Appearance
from .hypotheses import Hypothesis
from .levenberg_marquardt import Descent
from .look import Look, Seen, look_together
from .pose_check import PoseCheck
from .problem import Problem
from .settings import PoseEstimate, PoseSettings
from .stages import Outcome, Request, Stages, by_levels, by_screw, order_of
from .templates import object_extent
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
    stages = (
        by_screw(problem, hypotheses)
        if settings.method == "adam"
        else by_levels(problem, hypotheses, check, appearance)
    )
    outcome = _alone(stages)
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
    extent = object_extent(gaussians)
    problems = [Problem(gaussians, camera, image, background, settings, extent) for image in images]
    stages = [
        by_levels(problem, guesses, check, appearance)
        for problem, guesses in zip(problems, hypotheses, strict=True)
    ]
    outcomes = _in_lock_step(stages)
    share = (time.perf_counter() - began) / max(1, len(images))
    return [
        _estimate(problem, outcome, check, share)
        for problem, outcome in zip(problems, outcomes, strict=True)
    ]


def _alone(stages: Stages[Outcome]) -> Outcome:
    """Runs the stages of one query, descent after descent."""
    try:
        asked = next(stages)
        while True:
            if isinstance(asked, Look):
                asked = stages.send(look_together([asked])[0])
            else:
                asked = stages.send(_descend(asked))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def _descend(request: Request) -> list[Descent]:
    """The descents that a query alone asks for."""
    problem, appearance = request.problem, request.appearance
    return [
        problem.descend(candidate, request.plan, problem.visible_from(candidate, appearance))
        for candidate in request.candidates
    ]


def _in_lock_step(queries: Sequence[Stages[Outcome]]) -> list[Outcome]:
    """Runs the stages of many queries; those that wait for the earliest thing go on together."""
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, Request | Look] = {}

    def advance(number: int, answer: list[Descent] | Seen | None) -> None:
        try:
            waiting[number] = queries[number].send(answer)
        except StopIteration as end:
            outcomes[number] = end.value

    for number in range(len(queries)):
        advance(number, None)
    while waiting:
        earliest = min(map(order_of, waiting.values()))
        numbers = [number for number, asked in waiting.items() if order_of(asked) == earliest]
        for number, answer in zip(
            numbers, _answers([waiting.pop(n) for n in numbers]), strict=True
        ):
            advance(number, answer)
    return [outcomes[number] for number in range(len(queries))]


def _answers(asked: Sequence[Request | Look]) -> Sequence[list[Descent] | Seen]:
    """What queries ask for that are at the same stage."""
    looks = [each for each in asked if isinstance(each, Look)]
    requests = [each for each in asked if isinstance(each, Request)]
    return look_together(looks) if looks else descend_together(requests)


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
