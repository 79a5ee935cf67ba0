"""From coarse hypotheses to one pose: which stages run, in what order, and when they stop."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gaussian_renderer import photometric_loss
from gaussian_renderer.normal_equations import pose_normal_equations
from scene import Camera, Gaussians, InputError

from .adam import refine_screw, refine_twist
from .evidence import gather_evidence
from .hypotheses import Hypothesis
from .lm import Descent, levenberg_marquardt
from .pyramid import Level, Renderer, level_of
from .settings import PoseEstimate, PoseSettings
from .templates import object_extent
from .visible import visible_only

_KEPT = 4  # hypotheses that are refined
_RIVAL = 1.25  # a candidate whose loss is within that factor of the best is not given up
# Levels of the search and of the finish: (shrink factor, evaluations, step at which it is enough).
_SEARCH = (4, 5, 5e-3)
_SETTLE = (4, 10, 2e-3)
_FINISH = ((2, 6, 5e-4), (1, 6, 1e-4))
_WIDER = 2.0  # times the Huber threshold at low resolution, where poses are farther off
_SEARCH_STEPS = 60  # of Adam, where Levenberg-Marquardt did not do


@dataclass
class _Candidate:
    """A pose under refinement."""

    hypothesis: int
    world_to_camera: Tensor  # [4, 4] float64
    loss: float = float("inf")  # comparable among candidates at one level


class _Problem:
    """One query: the renderer, its resolutions, and a count of the steps taken."""

    def __init__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        image: Tensor,
        background: Tensor,
        settings: PoseSettings,
    ) -> None:
        like = gaussians.means
        self.renderer = Renderer(
            gaussians.detach(), background.to(like), settings.backend, settings.threads
        )
        self.settings = settings
        self.centre, radius = object_extent(gaussians)
        self.radius = float(radius)
        self.steps = 0
        self._camera, self._image = camera, image.to(like)
        self._levels: dict[int, Level] = {}

    def level(self, shrink: int) -> Level:
        """The query at 1 / shrink of its resolution."""
        if shrink not in self._levels:
            self._levels[shrink] = level_of(self._camera, self._image, shrink)
        return self._levels[shrink]

    def descend(
        self, candidate: _Candidate, plan: tuple[int, int, float], renderer: Renderer
    ) -> Descent:
        """Levenberg-Marquardt from a candidate, which is moved to where it ends."""
        shrink, evaluations, tolerance = plan
        level = self.level(shrink)
        descent = levenberg_marquardt(
            lambda pose: pose_normal_equations(
                renderer.gaussians,
                level.camera.at(pose),
                level.image,
                renderer.background,
                huber=self.settings.huber * (_WIDER if shrink >= _SEARCH[0] else 1.0),
                backend=renderer.backend,
                threads=renderer.threads,
            ),
            candidate.world_to_camera,
            self.centre,
            self.radius,
            evaluations=evaluations,
            tolerance=tolerance,
        )
        self.steps += descent.evaluations
        candidate.world_to_camera, candidate.loss = descent.world_to_camera, descent.loss
        return descent

    def visible_from(self, candidate: _Candidate) -> Renderer:
        """A renderer of what the candidate's viewpoint shows."""
        return visible_only(self.renderer, self.level(_SEARCH[0]), candidate.world_to_camera)

    def follow_gradient(self, candidate: _Candidate, shrink: int, steps: int) -> None:
        """A short run of Adam from a candidate, which is moved to where it ends."""
        candidate.world_to_camera, losses = refine_twist(
            self.renderer, self.level(shrink), candidate.world_to_camera, self.centre, self.radius,
            steps=steps,
        )  # fmt: skip
        self.steps += len(losses)


def estimate_pose(
    gaussians: Gaussians,
    camera: Camera,  # the query's lens and size; its pose is not used
    image: Tensor,  # [3, H, W] in 0..1
    hypotheses: Sequence[Hypothesis],
    background: Tensor,  # [3]
    settings: PoseSettings | None = None,
) -> PoseEstimate:
    """Refines the best of the hypotheses until the rendering fits the query.

    Raises InputError when there is no hypothesis or the image does not have the camera's size.
    """
    settings = settings or PoseSettings()
    if not hypotheses:
        raise InputError("no coarse pose to start from: check that the gallery has train views")
    if tuple(image.shape) != (3, camera.height, camera.width):
        raise InputError(
            f"the query has shape {tuple(image.shape)}, its camera wants "
            f"(3, {camera.height}, {camera.width}): resize the image"
        )
    problem = _Problem(gaussians, camera, image, background, settings)
    began = time.perf_counter()
    if settings.method == "adam":
        candidate, descent, history = _by_screw(problem, hypotheses)
    else:
        candidate, descent, history = _coarse_to_fine(problem, hypotheses)
    seconds = time.perf_counter() - began
    return _conclude(problem, candidate, descent, history, seconds)


def _by_screw(
    problem: _Problem, hypotheses: Sequence[Hypothesis]
) -> tuple[_Candidate, Descent | None, Sequence[float]]:
    """The paper's refinement: one hypothesis, full resolution, a fixed number of steps."""
    settings = problem.settings
    pose, losses = refine_screw(
        problem.renderer,
        problem.level(1),
        hypotheses[0].world_to_camera,
        problem.centre,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        ssim_weight=settings.ssim_weight,
    )
    problem.steps += len(losses)
    return _Candidate(0, pose, losses[-1] if losses else float("nan")), None, losses


def _coarse_to_fine(
    problem: _Problem, hypotheses: Sequence[Hypothesis]
) -> tuple[_Candidate, Descent | None, Sequence[float]]:
    """A few steps at low resolution from every hypothesis; the best goes on to full resolution."""
    candidates = [_Candidate(i, h.world_to_camera) for i, h in enumerate(hypotheses[:_KEPT])]
    if len(candidates) > 1:
        for candidate in candidates:
            problem.descend(candidate, _SEARCH, problem.visible_from(candidate))
        least = min(candidate.loss for candidate in candidates)
        candidates = [c for c in candidates if c.loss <= _RIVAL * least]
    for candidate in candidates:
        problem.descend(candidate, _SETTLE, problem.visible_from(candidate))
    best = min(candidates, key=lambda candidate: candidate.loss)
    visible = problem.visible_from(best)
    for plan in _FINISH:
        descent = problem.descend(best, plan, visible)
    return best, descent, descent.history


def _conclude(
    problem: _Problem,
    candidate: _Candidate,
    descent: Descent | None,
    history: Sequence[float],
    seconds: float,
) -> PoseEstimate:
    """Looks at the final pose once more, at full resolution."""
    renderer, level = problem.renderer, problem.level(1)
    rendering = renderer.at(level, candidate.world_to_camera)
    loss = photometric_loss(
        rendering.image, level.image, problem.settings.ssim_weight, renderer.backend,
        renderer.threads,
    )  # fmt: skip
    return PoseEstimate(
        world_to_camera=candidate.world_to_camera,
        loss=float(loss),
        steps=problem.steps,
        hypothesis=candidate.hypothesis,
        evidence=gather_evidence(level.image, rendering, renderer.background),
        seconds={"refine": seconds},
        history=tuple(history),
    )
