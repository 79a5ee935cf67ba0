"""The stages from coarse hypotheses to one pose: which run, in what order, and when they stop.

They are written as generators that ask for descents and looks and wait for them, so that one text
serves a query alone and many queries for which they are computed together (refine.py).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from .adam import refine_screw
from .appearance import Appearance
from .hypotheses import Hypothesis
from .look import Look, Seen
from .pose_check import DOUBTFUL, PoseCheck
from .problem import LOW, Candidate, Plan, Problem

_KEPT = 8  # hypotheses that are refined, of those that the matcher gives
_RIVAL = 1.25  # a candidate whose loss is within that factor of the best is not given up
_SETTLED = 4  # candidates, at most, that go on then
SEARCH = Plan(LOW, 5, 5e-3)  # from every hypothesis
SETTLE = Plan(LOW, 16, 2e-3)  # from those that are left
FINISH = Plan(1, 6, 1e-4)  # the best one
_ORDER = (SEARCH, SETTLE, LOW, FINISH, 1)  # in which a query asks for descents and for looks
_SECOND_TRIES = 2  # hypotheses from which Adam is tried where that did not do
_ADAM_FIRST, _ADAM_THEN = 12, 28  # steps from each of them, and from the better one
_PROGRESS = 0.9  # of its start: the loss after the first steps that lets the others follow
_ADAM_RATE, _ADAM_SHARE = 0.02, 0.1  # at first; at the end, as a share of that


@dataclass(frozen=True)
class Outcome:
    """Where a whole refinement ended."""

    candidate: Candidate
    loss: float
    evidence: dict[str, float]
    covariance: Tensor | None
    history: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """Descents that a query waits for; the candidates are moved to where they end."""

    problem: Problem
    candidates: Sequence[Candidate]
    plan: Plan
    appearance: Appearance | None = None


T = TypeVar("T")
Stages = Generator[Request | Look, Any, T]  # a Request is answered by descents, a Look by a Seen


def order_of(asked: Request | Look) -> int:
    """How early a query asks for such a thing; what is of the same order can go together."""
    return _ORDER.index(asked.plan if isinstance(asked, Request) else asked.shrink)


def by_screw(problem: Problem, hypotheses: Sequence[Hypothesis]) -> Stages[Outcome]:
    """The paper's refinement: one hypothesis, full resolution, a fixed number of steps."""
    settings = problem.settings
    pose, losses = refine_screw(
        problem.model,
        problem.level(1),
        hypotheses[0].world_to_camera,
        problem.centre,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        ssim_weight=settings.ssim_weight,
    )
    problem.steps += len(losses)
    return (yield from _look(problem, Candidate(0, pose), None, losses))


def by_levels(
    problem: Problem,
    hypotheses: Sequence[Hypothesis],
    check: PoseCheck | None,
    appearance: Appearance | None,
) -> Stages[Outcome]:
    """The search at low resolution, a second try where it did not do, and the finish."""
    best = yield from _search(problem, hypotheses)
    judge = check or DOUBTFUL
    roughly = judge.at_low_resolution()
    evidence = yield from _low_evidence(problem, best)
    second_try = problem.settings.method == "auto"
    if second_try and not roughly.accepts(evidence):
        second_try, again = False, (yield from _adam(problem, hypotheses))
        if again is not None and again.loss < best.loss:
            best, evidence = again, (yield from _low_evidence(problem, again))
    if check is not None and roughly.rules_out(evidence):
        return (yield from _look(problem, best, None, ()))
    outcome = yield from _finish(problem, best, appearance)
    if second_try and not judge.accepts(outcome.evidence):
        again = yield from _adam(problem, hypotheses)
        if again is not None:
            again_finished = yield from _finish(problem, again, appearance)
            outcome = min(outcome, again_finished, key=lambda found: found.loss)
    return outcome


def _search(problem: Problem, hypotheses: Sequence[Hypothesis]) -> Stages[Candidate]:
    """A few steps from every hypothesis, and from the plausible ones until they settle."""
    candidates = [Candidate(i, h.world_to_camera) for i, h in enumerate(hypotheses[:_KEPT])]
    if len(candidates) > 1:
        yield Request(problem, candidates, SEARCH)
        least = min(candidate.loss for candidate in candidates)
        candidates = [c for c in candidates if c.loss <= _RIVAL * least]
        candidates = sorted(candidates, key=lambda candidate: candidate.loss)[:_SETTLED]
    yield Request(problem, candidates, SETTLE)
    return min(candidates, key=lambda candidate: candidate.loss)


def _adam(problem: Problem, hypotheses: Sequence[Hypothesis]) -> Stages[Candidate | None]:
    """Adam with SSIM reaches farther than Levenberg-Marquardt, which then settles.

    After the first steps only the hypothesis that fits best goes on; none of them, where the loss
    has hardly fallen by then, as before a picture of something else.
    """
    tried = hypotheses[:_SECOND_TRIES]
    candidates = [Candidate(i, h.world_to_camera) for i, h in enumerate(tried)]
    going = []
    for candidate in candidates:
        losses = problem.follow_gradient(candidate, _ADAM_FIRST, _ADAM_RATE, 1.0)
        going += [candidate] if losses[-1] < _PROGRESS * losses[0] else []
    if not going:
        return None
    best = min(going, key=lambda candidate: candidate.loss)
    problem.follow_gradient(best, _ADAM_THEN, _ADAM_RATE, _ADAM_SHARE)
    yield Request(problem, [best], SETTLE)
    return best


def _finish(problem: Problem, best: Candidate, appearance: Appearance | None) -> Stages[Outcome]:
    """One candidate at full resolution."""
    (descent,) = yield Request(problem, [best], FINISH, appearance)
    return (yield from _look(problem, best, descent.jtj, descent.history))


def _low_evidence(problem: Problem, candidate: Candidate) -> Stages[dict[str, float]]:
    """How well a candidate fits, as far as the low resolution tells."""
    seen: Seen = yield Look(problem, candidate, LOW)
    return seen.evidence


def _look(
    problem: Problem, candidate: Candidate, jtj: Tensor | None, history: Sequence[float]
) -> Stages[Outcome]:
    """Renders the final pose once more, at full resolution, and measures how well it fits."""
    seen: Seen = yield Look(problem, candidate)
    covariance = None if jtj is None else _covariance(jtj, seen.noise)
    return Outcome(candidate, seen.loss, seen.evidence, covariance, tuple(history))


def _covariance(jtj: Tensor, noise: float) -> Tensor | None:
    """Covariance [6, 6] of the twist (omega, v) in the camera frame, or None if it is singular.

    First order, as if the residuals of neighbouring pixels were independent; they are not, so it
    tells which directions are weak rather than how large the error is.
    """
    inverted, failed = torch.linalg.inv_ex(jtj)
    if int(failed) or not bool(torch.isfinite(inverted).all()):
        return None
    return inverted * noise**2
