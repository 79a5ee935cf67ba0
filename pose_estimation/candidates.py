"""Poses under refinement, many at once, and the moves that they can make."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera

from .adam import refine_twist
from .equations import pose_equations, rough_equations
from .fit_statistics import Fit, measure_fit
from .hypotheses import Hypothesis
from .levenberg_marquardt import levenberg_marquardt
from .multiscale import ExpectedResidual, Level, level_of, seen_from
from .settings import PoseSettings
from .viewpoints import object_extent

LOW = 4  # shrink factor of the level at which candidates are compared
HALF = 2  # of that at which they settle: smooth objects drift away at the first
ROUGH = 50  # pixels, about: the longer side of the level at which there may be dozens of them
_WIDER = 2.0  # times the Huber threshold at both, where poses are farther off


class Plan(NamedTuple):
    """One run of Levenberg-Marquardt."""

    shrink: int  # of the queries
    evaluations: int  # at most
    tolerance: float  # step, in radians and object radii, at which it is near enough


@dataclass(frozen=True)
class Candidates:
    """M poses under refinement."""

    poses: Tensor  # [M, 4, 4] float64 world_to_camera
    query: Tensor  # [M] number of the query
    hypothesis: Tensor  # [M] number of the coarse pose that it came from, among its query's
    loss: Tensor  # [M] float64, comparable among the candidates of a query at one level

    def __len__(self) -> int:
        return len(self.poses)

    def at(self, chosen: Tensor) -> "Candidates":
        """Those with these numbers, or of this mask."""
        return Candidates(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def joined(self, other: "Candidates") -> "Candidates":
        """These, then the others."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Candidates(*(torch.cat(pair) for pair in pairs))

    def of_each_query(self, choose: Callable[[Tensor], Tensor]) -> "Candidates":
        """What `choose` takes by the losses of each query, ordered by query."""
        chosen = [self.query[:0]]
        for query in self.query.unique():
            own = (self.query == query).nonzero()[:, 0]
            chosen.append(own[choose(self.loss[own])])
        return self.at(torch.cat(chosen))


def starts_of(
    hypotheses: Sequence[Sequence[Hypothesis]], numbers: Iterable[int], most: int
) -> Candidates:
    """The first hypotheses, at most so many, of each of these queries."""
    rows = [(query, place) for query in numbers for place in range(len(hypotheses[query]))[:most]]
    poses = [hypotheses[query][place].world_to_camera for query, place in rows]
    query, place = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2).unbind(1)
    unknown = torch.full((len(rows),), torch.inf, dtype=torch.float64)
    empty = torch.zeros(0, 4, 4, dtype=torch.float64)
    return Candidates(torch.stack(poses) if poses else empty, query, place, unknown)


class Queries:
    """B queries of one object through one lens, and the moves that candidates can make."""

    def __init__(
        self,
        model: ObjectRenderer,
        camera: Camera,
        images: Tensor,
        settings: PoseSettings,
        expected_residual: ExpectedResidual | None,
    ) -> None:
        like = model.gaussians.means
        background = model.background.to(like)
        self.model = replace(model, gaussians=model.gaussians.detach(), background=background)
        self.settings, self.expected_residual = settings, expected_residual
        self.centre, radius = object_extent(model.gaussians)
        self.radius = float(radius)
        self.full = level_of(camera, images.to(like), 1)
        self.half = level_of(camera, self.full.images, HALF)
        self.low = level_of(camera, self.full.images, LOW)
        shrink = max(LOW, round(max(camera.width, camera.height) / ROUGH))
        self.rough = level_of(camera, self.full.images, shrink)
        self.steps = torch.zeros(len(images), dtype=torch.int64)  # taken so far, of each query

    def descend(
        self, candidates: Candidates, plan: Plan, expected: ExpectedResidual | None = None
    ) -> tuple[Candidates, Tensor]:
        """Levenberg-Marquardt: the candidates where they end, and J^T W J [M, 6, 6] there."""
        if not len(candidates):
            return candidates, candidates.poses.new_zeros(0, 6, 6)
        level = {1: self.full, HALF: self.half, LOW: self.low}[plan.shrink]
        huber = self.settings.huber * (_WIDER if plan.shrink == LOW else 1.0)
        found = levenberg_marquardt(
            pose_equations(
                self.model, level, self.low, candidates.poses, candidates.query, huber, expected
            ),
            candidates.poses, self.centre, self.radius,
            evaluations=plan.evaluations, tolerance=plan.tolerance,
        )  # fmt: skip
        self.steps.index_add_(0, candidates.query, found.evaluations)
        return replace(candidates, poses=found.world_to_camera, loss=found.loss), found.jtj

    def descend_roughly(self, candidates: Candidates, plan: Plan) -> Candidates:
        """Levenberg-Marquardt at very low resolution, for many candidates of one query."""
        if not len(candidates):
            return candidates
        huber = self.settings.huber * _WIDER
        found = levenberg_marquardt(
            rough_equations(self.model, self.rough, candidates.poses, candidates.query, huber),
            candidates.poses, self.centre, self.radius,
            evaluations=plan.evaluations, tolerance=plan.tolerance,
        )  # fmt: skip
        self.steps.index_add_(0, candidates.query, found.evaluations)
        return replace(candidates, poses=found.world_to_camera, loss=found.loss)

    def follow_gradient(
        self, candidates: Candidates, steps: int, learning_rate: float, final_share: float
    ) -> tuple[Candidates, Tensor]:
        """A short run of Adam at low resolution: where they end, and the losses [M] at the start.

        The candidates' losses are those before the last step.
        """
        poses, traces = candidates.poses.clone(), []
        for number, query in enumerate(candidates.query.tolist()):
            start = candidates.poses[number]
            poses[number], trace = refine_twist(
                seen_from(self.model, start, self.low, self.low), self.low.camera,
                self.low.images[query], start, self.centre, self.radius,
                steps=steps, learning_rate=learning_rate, final_share=final_share,
            )  # fmt: skip
            traces.append([trace[0], trace[-1]])
            self.steps[query] += len(trace)
        losses = torch.tensor(traces, dtype=torch.float64).reshape(-1, 2)
        return replace(candidates, poses=poses, loss=losses[:, 1]), losses[:, 0]

    def fit(self, candidates: Candidates, level: Level) -> list[Fit]:
        """How well the candidates fit at a level."""
        if not len(candidates):
            return []
        return measure_fit(
            self.model, level, candidates.poses, candidates.query, self.settings.ssim_weight
        )
