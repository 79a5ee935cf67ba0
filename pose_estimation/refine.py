"""From coarse hypotheses to poses: the stages, over all candidates of all queries at once.

A candidate is a pose under refinement. Stages take M of them as tensors and mask out what has
ended, so that one query alone and many together are the same text.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer, renders_many
from scene import Camera, InputError

from .adam import refine_screw
from .ambiguity import distinct, fits_as_well, rivals_of
from .candidates import HALF, LOW, Candidates, Plan, Queries, starts_of
from .fit_statistics import Fit
from .half_turns import half_turned
from .hypotheses import Hypothesis
from .multiscale import ExpectedResidual
from .pose_check import DOUBTFUL, PoseCheck
from .settings import PoseEstimate, PoseSettings

_MOST = 64  # hypotheses that are looked at, of those that the matcher gives
_KEPT = 8  # of them that are refined
_RIVAL = 1.25  # a candidate whose loss is within that factor of the best is not given up
_SETTLED = 8  # distinct candidates of a query, at most, that go on then
_SCREEN = Plan(LOW, 4, 2e-2)  # from all, where there are more
_SEARCH = Plan(HALF, 5, 5e-3)  # from every hypothesis
_EACH = Plan(HALF, 8, 3e-3)  # from poses before images that change between the calls
_SETTLE = Plan(HALF, 16, 2e-3)  # from those that are left
_RIVALS, _CLOSE = 1.3, 1.1  # times the best loss, at low and at full resolution: not decided
_CONTEST = Plan(1, 2, 1e-4)  # the best and its rivals
_FINISH = Plan(1, 6, 1e-4)  # the best one, and what is not decided then
_SECOND_TRIES = 2  # hypotheses from which Adam is tried where that did not do
_ADAM_FIRST, _ADAM_THEN = 12, 28  # steps from each of them, and from the better one
_PROGRESS = 0.9  # of its start: the loss after the first steps that lets the others follow
_ADAM_RATE, _ADAM_SHARE = 0.02, 0.1  # at first; at the end, as a share of that


def estimate_poses(
    model: ObjectRenderer,
    camera: Camera,  # lens and size of all queries; its pose is not used
    images: Tensor,  # [B, 3, H, W] in 0..1
    hypotheses: Sequence[Sequence[Hypothesis]],  # of each of them, best first
    settings: PoseSettings | None = None,
    check: PoseCheck | None = None,
    expected_residual: ExpectedResidual | None = None,
) -> list[PoseEstimate]:
    """Refines the best hypotheses of each of B queries until the rendering fits the query.

    With a `check` (see `calibrate_pose_check`) the estimates say whether they can be trusted. Under
    "auto" a doubtful pose gets a second try with Adam from the first hypotheses. Known residuals
    of the object (`expected_residual`, see multiscale.py) keep its gloss from moving the pose; adam
    does not use them.

    Where the backend renders many views in a call, queries go through the stages together and
    `seconds` are equal shares; a pose that the image determines ends the same up to rounding. Else
    they go one after the other, so that none depends on its neighbours by a single bit.

    Raises InputError when there is no hypothesis or an image does not have the camera's size.
    """
    settings = settings or PoseSettings()
    _check_queries(camera, images, hypotheses)
    together = settings.method != "adam" and renders_many(
        model.backend, model.gaussians.means.device
    )
    size = max(1, len(images)) if together else 1
    estimates: list[PoseEstimate] = []
    for start in range(0, len(images), size):
        began = time.perf_counter()
        chunk = slice(start, start + size)
        queries = Queries(model, camera, images[chunk], settings, expected_residual)
        if settings.method == "adam":
            outcomes = _by_screw(queries, hypotheses[chunk])
        else:
            outcomes = _by_levels(queries, hypotheses[chunk], check)
        seconds = (time.perf_counter() - began) / len(outcomes)
        estimates += [_estimate(found, queries.steps, check, seconds) for found in outcomes]
    return estimates


def estimate_pose(
    model: ObjectRenderer,
    camera: Camera,
    image: Tensor,  # [3, H, W] in 0..1
    hypotheses: Sequence[Hypothesis],
    settings: PoseSettings | None = None,
    check: PoseCheck | None = None,
    expected_residual: ExpectedResidual | None = None,
) -> PoseEstimate:
    """`estimate_poses` of one query."""
    return estimate_poses(
        model, camera, image[None], [hypotheses], settings, check, expected_residual
    )[0]


def settle_each(
    model: ObjectRenderer,
    camera: Camera,
    images: Tensor,  # [M, 3, H, W] in 0..1, for each pose its own
    poses: Tensor,  # [M, 4, 4] world_to_camera, where the search starts
    settings: PoseSettings,
) -> tuple[Tensor, list[Fit]]:
    """A few steps at half size from every pose, each before its own image: poses and their fits."""
    queries = Queries(model, camera, images, settings, None)
    number = torch.arange(len(poses))
    unknown = torch.full((len(poses),), torch.inf, dtype=torch.float64)
    found, _ = queries.descend(Candidates(poses, number, number, unknown), _EACH)
    return found.poses, queries.fit(found, queries.half)


class _Outcome(NamedTuple):
    """Where the refinement of one query ended."""

    query: int
    world_to_camera: Tensor  # [4, 4]
    hypothesis: int
    fit: Fit
    covariance: Tensor | None
    alternatives: tuple[Tensor, ...] = ()  # [4, 4] other poses that fit as well


def _by_screw(queries: Queries, hypotheses: Sequence[Sequence[Hypothesis]]) -> list[_Outcome]:
    """The paper's refinement: one hypothesis, full resolution, a fixed number of steps."""
    settings, level = queries.settings, queries.full
    candidates = starts_of(hypotheses, range(len(hypotheses)), 1)
    for number, image in enumerate(level.images):
        candidates.poses[number], losses = refine_screw(
            queries.model, level.camera, image, candidates.poses[number].clone(), queries.centre,
            steps=settings.steps, learning_rate=settings.learning_rate,
            schedule=settings.schedule, ssim_weight=settings.ssim_weight,
        )  # fmt: skip
        queries.steps[number] += len(losses)
    return _outcomes(queries, candidates)


def _by_levels(
    queries: Queries, hypotheses: Sequence[Sequence[Hypothesis]], check: PoseCheck | None
) -> list[_Outcome]:
    """The search at low resolution, a second try where it did not do, and the finish."""
    limits, second_try = check or DOUBTFUL, queries.settings.method == "auto"
    rough = limits.at_low_resolution()
    settled, hopeful = _search(queries, hypotheses, None if check is None else rough)
    best = settled.of_each_query(_least)
    searched = torch.tensor([len(hypotheses[query]) > 1 for query in best.query.tolist()])
    settled = settled.joined(half_turned(queries, best.at(searched & hopeful[best.query])))
    best = settled.of_each_query(_least)
    fits = queries.fit(best, queries.low)
    doubtful = [q for q, fit in enumerate(fits) if not rough.accepts(fit.statistics)]
    if second_try and doubtful:
        again = _second_try(queries, hypotheses, doubtful)
        again = again.at(again.loss < best.loss[again.query])
        best = best.joined(again).of_each_query(_least)
        for query, fit in zip(again.query.tolist(), queries.fit(again, queries.low), strict=True):
            fits[query] = fit
    nearer = queries.fit(best, queries.half)  # noise is grey at low resolution, and fits
    lost = torch.tensor([
        check is not None and any(rough.rules_out(fit.statistics) for fit in pair)
        for pair in zip(fits, nearer, strict=True)
    ])  # fmt: skip
    gone = best.at(lost)
    best, rivals = _contest(queries, best.at(~lost), settled.at(~lost[settled.query]))
    ends = _finish(queries, best) + _outcomes(queries, gone)
    outcomes = {found.query: found for found in ends}
    for rival in _finish(queries, rivals):
        outcomes[rival.query] = _beside(queries, outcomes[rival.query], rival)
    if second_try:
        tried = {*doubtful, *lost.nonzero()[:, 0].tolist()}
        unsure = [
            query
            for query in sorted(outcomes.keys() - tried)
            if not limits.accepts(outcomes[query].fit.statistics)
        ]
        for found in _finish(queries, _second_try(queries, hypotheses, unsure)):
            outcomes[found.query] = _beside(queries, outcomes[found.query], found)
    return [outcomes[query] for query in range(len(hypotheses))]


def _search(
    queries: Queries, hypotheses: Sequence[Sequence[Hypothesis]], check: PoseCheck | None
) -> tuple[Candidates, Tensor]:
    """A few steps from every hypothesis, and from the plausible ones until they settle.

    Also whether there is hope for each query, [B] bool. Where even the best candidate is far
    beyond what the check allows, as before an image of something else, it alone settles.
    """
    candidates = _screened(queries, starts_of(hypotheses, range(len(hypotheses)), _MOST))
    alone = candidates.query.bincount()[candidates.query] == 1
    searched, _ = queries.descend(candidates.at(~alone), _SEARCH)
    best = searched.of_each_query(_least)
    hopeful = torch.ones(len(hypotheses), dtype=torch.bool)
    if check is not None:
        for query, fit in zip(best.query.tolist(), queries.fit(best, queries.low), strict=True):
            hopeful[query] = not check.is_hopeless(fit.statistics)
    plausible = _plausible(searched.at(hopeful[searched.query]))
    candidates = candidates.at(alone).joined(best.at(~hopeful[best.query])).joined(plausible)
    return queries.descend(candidates, _SETTLE)[0], hopeful


def _screened(queries: Queries, candidates: Candidates) -> Candidates:
    """The `_KEPT` most promising of each query, where there are more: a look at every one."""
    counts = candidates.query.bincount()[candidates.query]
    many = candidates.at(counts > _KEPT)
    kept = [candidates.at(counts <= _KEPT)]
    for query in many.query.unique():
        own = queries.descend_roughly(many.at(many.query == query), _SCREEN)
        kept.append(own.at(distinct(own.poses, own.loss, _KEPT)))
    found = kept[0]
    for more in kept[1:]:
        found = found.joined(more)
    return found


def _contest(
    queries: Queries, best: Candidates, settled: Candidates
) -> tuple[Candidates, Candidates]:
    """Which of nearly equal poses leads at full resolution, and which are not decided there.

    What breaks a symmetry, as a small mark does, may not show at low resolution.
    """
    rivals = rivals_of(settled, best, _RIVALS)
    contested = torch.isin(best.query, rivals.query)
    nearer, _ = queries.descend(
        best.at(contested).joined(rivals), _CONTEST, queries.expected_residual
    )
    leading = nearer.of_each_query(_least)
    return best.at(~contested).joined(leading), rivals_of(nearer, leading, _CLOSE)


def _beside(queries: Queries, first: _Outcome, second: _Outcome) -> _Outcome:
    """The better of two ends; the other one is an alternative where it fits as well."""
    best, other = (second, first) if second.fit.loss < first.fit.loss else (first, second)
    others = (other.world_to_camera, *first.alternatives)
    pose = best.world_to_camera
    equal = [each for each in others if fits_as_well(queries, best.query, pose, each)]
    return best._replace(alternatives=tuple(equal))


def _second_try(
    queries: Queries, hypotheses: Sequence[Sequence[Hypothesis]], doubtful: Sequence[int]
) -> Candidates:
    """Adam with SSIM reaches farther than Levenberg-Marquardt, which then settles.

    After the first steps only the hypothesis that fits best goes on; none of them, where the loss
    has hardly fallen by then, as before an image of something else.
    """
    candidates = starts_of(hypotheses, doubtful, _SECOND_TRIES)
    candidates, before = queries.follow_gradient(candidates, _ADAM_FIRST, _ADAM_RATE, 1.0)
    best = candidates.at(candidates.loss < _PROGRESS * before).of_each_query(_least)
    best, _ = queries.follow_gradient(best, _ADAM_THEN, _ADAM_RATE, _ADAM_SHARE)
    return queries.descend(best, _SETTLE)[0]


def _finish(queries: Queries, candidates: Candidates) -> list[_Outcome]:
    """Candidates at full resolution, in the colours to expect there."""
    return _outcomes(queries, *queries.descend(candidates, _FINISH, queries.expected_residual))


def _outcomes(
    queries: Queries, candidates: Candidates, jtj: Tensor | None = None
) -> list[_Outcome]:
    """The final candidates, each rendered once more at full resolution."""
    fits = queries.fit(candidates, queries.full)
    covariances = [None] * len(fits) if jtj is None else map(_covariance, jtj, fits)
    parts = candidates.query.tolist(), candidates.poses, candidates.hypothesis.tolist()
    return list(map(_Outcome, *parts, fits, covariances))


def _first(losses: Tensor) -> Tensor:
    """Where the least of a query's losses stand, `_SETTLED` at most, best first."""
    return losses.argsort(stable=True)[:_SETTLED]


def _least(losses: Tensor) -> Tensor:
    """Where the least of a query's losses stands, [1]."""
    return losses.argmin(dim=0, keepdim=True)


def _plausible(candidates: Candidates) -> Candidates:
    """Those that are not given up: distinct, and nearly as good as the best of their query."""
    best = candidates.of_each_query(_least)
    rivals = rivals_of(candidates, best, _RIVAL)
    return best.joined(rivals).of_each_query(_first)


def _covariance(jtj: Tensor, fit: Fit) -> Tensor | None:
    """Covariance [6, 6] of the twist (omega, v) in the camera frame, or None if it is singular.

    First order, as if the residuals of neighbouring pixels were independent; they are not, so it
    tells which directions are weak rather than how large the error is.
    """
    inverted, failed = torch.linalg.inv_ex(jtj)
    if int(failed) or not bool(torch.isfinite(inverted).all()):
        return None
    return inverted * fit.noise**2


def _check_queries(
    camera: Camera, images: Tensor, hypotheses: Sequence[Sequence[Hypothesis]]
) -> None:
    """Raises InputError when there is no hypothesis or images are not of the camera's size."""
    if not all(hypotheses):
        raise InputError("no coarse pose to start from: check that the gallery has train views")
    if tuple(images.shape[1:]) != (3, camera.height, camera.width):
        raise InputError(
            f"the query has shape {tuple(images.shape[1:])}, its camera wants "
            f"(3, {camera.height}, {camera.width}): resize the image"
        )


def _estimate(
    outcome: _Outcome, steps: Tensor, check: PoseCheck | None, seconds: float
) -> PoseEstimate:
    """What is told of a finished refinement."""
    return PoseEstimate(
        world_to_camera=outcome.world_to_camera,
        loss=outcome.fit.loss,
        steps=int(steps[outcome.query]),
        hypothesis=outcome.hypothesis,
        pose_ok=None if check is None else check.accepts(outcome.fit.statistics),
        covariance=outcome.covariance,
        alternatives=outcome.alternatives,
        fit=outcome.fit.statistics,
        seconds={"refine": seconds},
    )
