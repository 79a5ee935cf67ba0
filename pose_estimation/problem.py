"""One query under refinement: the renderer, its resolutions, and the moves that can be made."""

from dataclasses import dataclass

from torch import Tensor

from gaussian_renderer.normal_equations import pose_normal_equations
from gaussian_renderer.object_renderer import ObjectRenderer
from scene import Camera, Gaussians

from .adam import refine_twist
from .appearance import Appearance, corrected
from .levenberg_marquardt import Descent, levenberg_marquardt
from .pyramid import Level, at_level, level_of
from .settings import PoseSettings
from .templates import object_extent
from .visible import visible_only

LOW = 4  # shrink factor of the level at which hypotheses are compared
_WIDER = 2.0  # times the Huber threshold there, where poses are farther off


@dataclass(frozen=True)
class Plan:
    """One run of Levenberg-Marquardt."""

    shrink: int  # of the query
    evaluations: int  # at most
    tolerance: float  # step, in radians and object radii, at which it is near enough


@dataclass
class Candidate:
    """A pose under refinement."""

    hypothesis: int
    world_to_camera: Tensor  # [4, 4] float64
    loss: float = float("inf")  # comparable among candidates at one level


class Problem:
    """One query: the renderer, its resolutions, and a count of the steps taken."""

    def __init__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        image: Tensor,
        background: Tensor,
        settings: PoseSettings,
        extent: tuple[Tensor, Tensor] | None = None,  # of the object, where it is known already
    ) -> None:
        like = gaussians.means
        self.model = ObjectRenderer(
            gaussians.detach(), background.to(like), settings.backend, settings.threads
        )
        self.settings = settings
        self.centre, radius = object_extent(gaussians) if extent is None else extent
        self.radius = float(radius)
        self.steps = 0
        self._camera, self._image = camera, image.to(like)
        self._levels: dict[int, Level] = {}

    def level(self, shrink: int) -> Level:
        """The query at 1 / shrink of its resolution."""
        if shrink not in self._levels:
            self._levels[shrink] = level_of(self._camera, self._image, shrink)
        return self._levels[shrink]

    def huber(self, plan: Plan) -> float:
        """Colour residual from which on a pixel counts linearly."""
        return self.settings.huber * (_WIDER if plan.shrink >= LOW else 1.0)

    def descend(self, candidate: Candidate, plan: Plan, visible: ObjectRenderer) -> Descent:
        """Levenberg-Marquardt from a candidate, which is moved to where it ends."""
        level = self.level(plan.shrink)
        model = at_level(visible, level, candidate.world_to_camera)
        huber = self.huber(plan)
        descent = levenberg_marquardt(
            lambda pose: pose_normal_equations(
                model.gaussians,
                level.camera.at(pose),
                level.image,
                model.background,
                huber=huber,
                backend=model.backend,
                threads=model.threads,
            ),
            candidate.world_to_camera,
            self.centre,
            self.radius,
            evaluations=plan.evaluations,
            tolerance=plan.tolerance,
        )
        self.record(candidate, descent)
        return descent

    def record(self, candidate: Candidate, descent: Descent) -> None:
        """Moves a candidate to where a descent from it ended."""
        self.steps += descent.evaluations
        candidate.world_to_camera, candidate.loss = descent.world_to_camera, descent.loss

    def visible_from(
        self, candidate: Candidate, appearance: Appearance | None = None
    ) -> ObjectRenderer:
        """What of the object the candidate's viewpoint shows, in the colours to expect there."""
        pose = candidate.world_to_camera
        model = self.model if appearance is None else corrected(self.model, appearance, pose)
        return visible_only(model, self.level(LOW), pose)

    def follow_gradient(
        self, candidate: Candidate, steps: int, learning_rate: float, final_share: float
    ) -> list[float]:
        """A short run of Adam at low resolution from a candidate, which is moved to its end.

        Returns the loss before every step.
        """
        level = self.level(LOW)
        visible = self.visible_from(candidate)
        candidate.world_to_camera, losses = refine_twist(
            at_level(visible, level, candidate.world_to_camera),
            level,
            candidate.world_to_camera,
            self.centre,
            self.radius,
            steps=steps,
            learning_rate=learning_rate,
            final_share=final_share,
        )
        candidate.loss = losses[-1]
        self.steps += len(losses)
        return losses
