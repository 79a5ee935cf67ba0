"""Refinement: Adam and Levenberg-Marquardt find a known pose again."""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from pose_scenes import SIZE, WHITE, lens, orbit, picture, tiny_object
from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import (
    PAPER,
    Hypothesis,
    PoseSettings,
    estimate_pose,
    rotation_error,
    translation_error,
)
from pose_estimation.adam import Adam, refine_screw, refine_twist
from pose_estimation.appearance import corrected
from pose_estimation.levenberg_marquardt import levenberg_marquardt
from pose_estimation.pyramid import Level, level_of, thinned_logits
from scene import Gaussians, InputError
from scene.se3 import twist_exp

ORIGIN = torch.zeros(3, dtype=torch.float64)


def fine_object() -> Gaussians:
    """A ball of splats no larger than a pixel or two, as trained models have them."""
    generator = torch.Generator().manual_seed(8)
    directions = torch.nn.functional.normalize(torch.randn(6000, 3, generator=generator), dim=1)
    tiny = tiny_object()
    return Gaussians(
        means=0.5 * directions,
        log_scales=torch.full((6000, 3), math.log(0.012)),
        quaternions=tiny.quaternions[:1].expand(6000, 4),
        opacity_logits=torch.full((6000,), 2.5),
        sh=torch.zeros(6000, 1, 3),
    )


def disturbed(world_to_camera: Tensor, degrees: float, seed: int = 0) -> Tensor:
    """The pose after the object was turned about a random axis through the origin."""
    axis = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    omega = axis / axis.norm() * math.radians(degrees)
    return world_to_camera @ twist_exp(torch.cat([omega, torch.zeros(3, dtype=torch.float64)]))


@dataclass
class PointEquations:
    """Normal equations of the distances between moved and wanted points."""

    jtj: Tensor
    jtr: Tensor
    loss: float


def point_equations(points: Tensor, true: Tensor):
    """Gauss-Newton for aligning 3D points: a stand-in for the renderer, with the same frames."""
    from scene.se3 import hat

    wanted = points @ true[:3, :3].T + true[:3, 3]

    def at(pose: Tensor) -> PointEquations:
        moved = points @ pose[:3, :3].T + pose[:3, 3]
        eye = torch.eye(3, dtype=torch.float64).expand(len(points), 3, 3)
        jacobian = torch.cat([-hat(moved), eye], dim=2).reshape(-1, 6)
        residual = (moved - wanted).reshape(-1)
        return PointEquations(
            jacobian.T @ jacobian, jacobian.T @ residual, float(residual @ residual)
        )

    return at


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_levenberg_marquardt_converges_in_any_unit_of_length(unit):
    points = unit * torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double()
    true = orbit(5)[1].world_to_camera.clone()
    true[:3, 3] *= unit
    found = levenberg_marquardt(
        point_equations(points, true), disturbed(true, 25), ORIGIN, unit, evaluations=30

    )  # fmt: skip
    assert found.converged
    assert rotation_error(found.world_to_camera, true) < 1e-6
    assert translation_error(found.world_to_camera, true) < 1e-6 * unit
    assert all(b < a for a, b in zip(found.history, found.history[1:], strict=False))


def test_levenberg_marquardt_gives_up_where_the_equations_say_nothing():
    empty = PointEquations(torch.zeros(6, 6).double(), torch.zeros(6).double(), 1.0)
    start = orbit(5)[1].world_to_camera
    found = levenberg_marquardt(lambda pose: empty, start, ORIGIN, 1.0)
    assert torch.equal(found.world_to_camera, start)
    assert not found.converged
    assert found.evaluations == 1
    broken = PointEquations(torch.full((6, 6), math.nan).double(), torch.zeros(6).double(), 1.0)
    assert not levenberg_marquardt(lambda pose: broken, start, ORIGIN, 1.0).converged


def test_a_step_that_does_not_help_is_not_taken():
    def uphill(pose: Tensor) -> PointEquations:
        moved = float(rotation_error(pose, start))
        return PointEquations(torch.eye(6).double(), torch.ones(6).double(), 1.0 + moved)

    start = orbit(5)[2].world_to_camera
    found = levenberg_marquardt(uphill, start, ORIGIN, 1.0, evaluations=6)
    assert torch.equal(found.world_to_camera, start)
    assert found.history == (1.0,)


def test_levels_keep_the_lens_and_average_the_pixels():
    image = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    level = level_of(lens(size=60).resized(60, 40), image, 4)
    assert level.image.shape == (3, 10, 15)
    assert (level.camera.width, level.camera.height) == (15, 10)
    assert torch.allclose(level.image[:, 2, 3], image[:, 8:12, 12:16].mean((1, 2)))
    assert level.camera.fx == pytest.approx(lens(size=60).fx / 4)


def test_adam_on_the_twist_finds_the_pose_again():
    gaussians, true = tiny_object(), orbit(30)[11]
    level = Level(lens(), picture(gaussians, true))
    found, losses = refine_twist(
        ObjectRenderer(gaussians, WHITE),
        level,
        disturbed(true.world_to_camera, 8),
        ORIGIN,
        0.5,
        steps=40,
    )
    assert losses[-1] < 0.3 * losses[0]
    assert math.degrees(rotation_error(found, true.world_to_camera)) < 0.5
    assert translation_error(found, true.world_to_camera) < 0.05


def test_the_papers_screw_parameters_reduce_the_error():
    gaussians, true = tiny_object(), orbit(30)[11]
    level = Level(lens(), picture(gaussians, true))
    start = disturbed(true.world_to_camera, 5)
    found, losses = refine_screw(
        ObjectRenderer(gaussians, WHITE), level, start, ORIGIN, steps=60, schedule="official"
    )
    assert len(losses) == 60
    assert losses[-1] < 0.3 * losses[0]
    assert rotation_error(found, true.world_to_camera) < 0.3 * rotation_error(
        start, true.world_to_camera
    )


def test_the_centre_of_the_object_need_not_be_the_origin():
    gaussians, true = tiny_object(), orbit(30)[4].world_to_camera
    offset = torch.tensor([20.0, -30.0, 10.0], dtype=torch.float64)
    moved = gaussians.map(lambda tensor: tensor)
    moved.means = gaussians.means + offset.float()
    back = torch.eye(4, dtype=torch.float64)
    back[:3, 3] = -offset
    image = picture(gaussians, lens(true))
    level = level_of(lens(), image, 4)
    start = disturbed(true, 6)
    near, _ = refine_twist(ObjectRenderer(gaussians, WHITE), level, start, ORIGIN, 0.5, steps=12)
    far, _ = refine_twist(ObjectRenderer(moved, WHITE), level, start @ back, offset, 0.5, steps=12)
    assert rotation_error(near, far @ torch.linalg.inv(back)) < 1e-3


def test_adam_steps_as_pytorchs_own():
    ours = [torch.tensor([1.0, -2.0, 0.5]), torch.tensor(3.0)]
    theirs = [tensor.clone().requires_grad_(True) for tensor in ours]
    optimiser, small = torch.optim.Adam(theirs, lr=1.0), Adam(ours)
    generator = torch.Generator().manual_seed(0)
    for step in range(25):
        gradients = [
            torch.randn(t.shape, generator=generator) * 10.0 ** (step % 5 - 3) for t in ours
        ]
        optimiser.param_groups[0]["lr"] = rate = 0.1 / (1 + step)
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = gradient
        optimiser.step()
        small.step(gradients, rate)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other.detach(), rtol=1e-5, atol=1e-6)


def test_thinned_splats_show_at_low_resolution_what_full_resolution_shows():
    gaussians, camera = fine_object(), orbit(30)[11].resized(256, 256)
    whole = picture(gaussians, camera)
    small, coarse = level_of(camera, whole, 4), camera.resized(64, 64)
    fat = (small.image - picture(gaussians, coarse)).mean()  # on white: positive if too large
    leaner = replace(gaussians, opacity_logits=thinned_logits(gaussians, coarse, 4))
    lean = (small.image - picture(leaner, coarse)).mean()
    assert fat > 0
    assert abs(lean) < 0.7 * fat
    same = thinned_logits(gaussians, camera, 1).sigmoid()
    assert torch.allclose(same, gaussians.opacities, atol=1e-5)


def test_the_paper_preset_returns_a_complete_estimate():
    gaussians, true = tiny_object(), orbit(30)[17]
    settings = PoseSettings(method="adam", steps=8, schedule="official")
    hypotheses = [Hypothesis(disturbed(true.world_to_camera, 3), 1.0)]
    image = picture(gaussians, true)
    estimate = estimate_pose(gaussians, lens(), image, hypotheses, WHITE, settings)
    assert estimate.steps == len(estimate.history) == 8
    assert estimate.world_to_camera.dtype == torch.float64
    assert estimate.pose_ok is None
    assert 0 < estimate.loss < 0.1
    assert set(estimate.evidence) == {"median", "upper", "mismatch"}
    assert estimate.seconds["refine"] > 0
    assert (PAPER.method, PAPER.steps, PAPER.learning_rate) == ("adam", 175, 0.001)


def test_an_object_out_of_the_frame_does_not_stop_adam():
    gaussians = tiny_object()
    away = orbit(30)[0].world_to_camera.clone()
    away[2, 3] = -10.0
    level = Level(lens(), torch.ones(3, SIZE, SIZE))
    found, losses = refine_twist(
        ObjectRenderer(gaussians, WHITE), level, away, ORIGIN, 0.5, steps=5
    )
    assert torch.isfinite(found).all()
    assert all(math.isfinite(loss) for loss in losses)


def test_wrong_sizes_and_missing_hypotheses_are_refused():
    gaussians, camera = tiny_object(), orbit(30)[0]
    hypotheses = [Hypothesis(camera.world_to_camera, 1.0)]
    with pytest.raises(InputError, match="resize"):
        estimate_pose(gaussians, camera, torch.ones(3, 10, 10), hypotheses, WHITE)
    with pytest.raises(InputError, match="no coarse pose"):
        estimate_pose(gaussians, camera, torch.ones(3, SIZE, SIZE), [], WHITE)


def test_known_residuals_correct_the_colours_that_poses_are_fitted_to():
    gaussians, true = tiny_object(), orbit(30)[11]
    gaussians.sh = gaussians.sh.abs()  # no colour is held at zero

    class Sheen:
        """Every Gaussian is redder than the model says."""

        def expect(self, rotation: Tensor) -> SimpleNamespace:
            assert torch.equal(rotation.float(), true.world_to_camera[:3, :3].float())
            return SimpleNamespace(mean=torch.tensor([0.1, 0.0, 0.0]).expand(len(gaussians), 3))

    plain = ObjectRenderer(gaussians, WHITE)
    model = corrected(plain, Sheen(), true.world_to_camera)
    change, alpha = (model(true).image - plain(true).image).detach(), plain(true).alpha.detach()
    assert torch.allclose(change[0], 0.1 * alpha, atol=0.03)
    assert change[1:].abs().max() < 1e-6


def test_a_sheen_that_is_known_does_not_move_the_pose():
    gaussians, true = tiny_object(), orbit(30)[11]
    side = 0.5 * (gaussians.means[:, :1] > 0.1) * torch.tensor([1.0, 0.6, 0.2])

    class Sheen:
        def expect(self, rotation: Tensor) -> SimpleNamespace:
            return SimpleNamespace(mean=side)

    shiny = corrected(ObjectRenderer(gaussians, WHITE), Sheen(), true.world_to_camera)
    image = shiny(true).image.detach()
    hypotheses = [Hypothesis(disturbed(true.world_to_camera, 3), 1.0)]
    errors = [
        float(rotation_error(
            estimate_pose(gaussians, lens(), image, hypotheses, WHITE, appearance=known)
            .world_to_camera, true.world_to_camera,
        ))
        for known in (None, Sheen())
    ]  # fmt: skip
    assert errors[1] < 0.2 * errors[0]
