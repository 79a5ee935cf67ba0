"""Refinement: Adam and Levenberg-Marquardt find a known pose again."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pose_scenes import SIZE, WHITE, lens, orbit, picture, tiny_model, tiny_object
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from pose_estimation import (
    PAPER,
    Hypothesis,
    PoseSettings,
    estimate_pose,
    rotation_error,
    translation_error,
)
from pose_estimation.adam import Adam, refine_screw, refine_twist
from pose_estimation.levenberg_marquardt import Equations, levenberg_marquardt
from pose_estimation.multiscale import Level, level_of, seen_from, thinned_logits
from scene import Gaussians, InputError
from scene.se3 import hat, twist_exp

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


def point_equations(points: Tensor, trues: Tensor) -> Callable[[Tensor, Tensor], Equations]:
    """Gauss-Newton for aligning 3D points: a stand-in for the renderer, with the same frames."""
    wanted = points @ trues[:, :3, :3].mT + trues[:, None, :3, 3]

    def at(numbers: Tensor, poses: Tensor) -> Equations:
        moved = points @ poses[:, :3, :3].mT + poses[:, None, :3, 3]
        eye = torch.eye(3, dtype=torch.float64).expand(*moved.shape, 3)
        jacobian = torch.cat([-hat(moved), eye], dim=-1).flatten(1, 2)
        residual = (moved - wanted[numbers]).flatten(1)[..., None]
        jtr = (jacobian.mT @ residual)[..., 0]
        return Equations(jacobian.mT @ jacobian, jtr, residual.square().sum((1, 2)))

    return at


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_levenberg_marquardt_converges_in_any_unit_of_length(unit):
    points = unit * torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double()
    trues = torch.stack([camera.world_to_camera for camera in orbit(5)[1:4]])
    trues[:, :3, 3] *= unit
    starts = torch.stack([disturbed(true, 25, seed=n) for n, true in enumerate(trues)])
    equations = point_equations(points, trues)
    found = levenberg_marquardt(equations, starts, ORIGIN, unit, evaluations=30)
    assert found.converged.all()
    assert rotation_error(found.world_to_camera, trues).max() < 1e-6
    assert translation_error(found.world_to_camera, trues).max() < 1e-6 * unit
    assert (found.loss < 1e-12 * unit**2).all()


def hopeless(numbers: Tensor, poses: Tensor) -> Equations:
    """By number: nothing to see, numbers that are none, and a gradient that leads nowhere."""
    jtj = torch.stack([torch.zeros(6, 6), torch.full((6, 6), math.nan), torch.eye(6)]).double()
    jtr = torch.stack([torch.zeros(6), torch.zeros(6), torch.ones(6)]).double()
    return Equations(jtj[numbers], jtr[numbers], torch.ones(len(numbers)).double())


def test_levenberg_marquardt_gives_up_where_the_equations_say_nothing():
    starts = torch.stack([camera.world_to_camera for camera in orbit(5)[1:4]])
    found = levenberg_marquardt(hopeless, starts, ORIGIN, 1.0, evaluations=6)
    assert torch.equal(found.world_to_camera, starts)
    assert not found.converged.any()
    assert found.evaluations.tolist() == [1, 1, 6]  # the last one tries shorter and shorter steps
    assert found.loss.tolist() == [1, 1, 1]


def test_poses_descend_together_as_each_alone_and_drop_out_as_they_end():
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double()
    trues = torch.stack([camera.world_to_camera for camera in orbit(5)])
    starts = torch.stack([disturbed(true, 5 + 12 * n, seed=n) for n, true in enumerate(trues)])
    equations, asked = point_equations(points, trues), []

    def listening(numbers: Tensor, poses: Tensor) -> Equations:
        asked.append(numbers.tolist())
        return equations(numbers, poses)

    together = levenberg_marquardt(listening, starts, ORIGIN, 1.0, evaluations=14)
    for number, (true, start) in enumerate(zip(trues, starts, strict=True)):
        own = point_equations(points, true[None])
        alone = levenberg_marquardt(own, start[None], ORIGIN, 1.0, evaluations=14)
        assert together.evaluations[number] == alone.evaluations[0]
        assert together.converged[number] == alone.converged[0]
        torch.testing.assert_close(
            together.world_to_camera[number], alone.world_to_camera[0], rtol=0, atol=1e-9
        )
    assert asked[0] == list(range(5))
    assert len(asked[-1]) < 5
    assert len(set(together.evaluations.tolist())) > 2


def test_levels_keep_the_lens_and_average_the_pixels():
    image = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    level = level_of(lens(size=60).resized(60, 40), image[None], 4)
    assert level.images.shape == (1, 3, 10, 15)
    assert (level.camera.width, level.camera.height) == (15, 10)
    assert torch.allclose(level.images[0, :, 2, 3], image[:, 8:12, 12:16].mean((1, 2)))
    assert level.camera.fx == pytest.approx(lens(size=60).fx / 4)


def test_adam_on_the_twist_finds_the_pose_again():
    true = orbit(30)[11]
    image, start = picture(tiny_object(), true), disturbed(true.world_to_camera, 8)
    found, losses = refine_twist(tiny_model(), lens(), image, start, ORIGIN, 0.5, steps=40)
    assert losses[-1] < 0.3 * losses[0]
    assert math.degrees(rotation_error(found, true.world_to_camera)) < 0.5
    assert translation_error(found, true.world_to_camera) < 0.05


def test_the_papers_screw_parameters_reduce_the_error():
    true = orbit(30)[11]
    image, start = picture(tiny_object(), true), disturbed(true.world_to_camera, 5)
    found, losses = refine_screw(
        tiny_model(), lens(), image, start, ORIGIN, steps=60, schedule="official"
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
    level = level_of(lens(), picture(gaussians, lens(true))[None], 4)
    query, start = (level.camera, level.images[0]), disturbed(true, 6)
    near, _ = refine_twist(tiny_model(), *query, start, ORIGIN, 0.5, steps=12)
    far, _ = refine_twist(ObjectRenderer(moved, WHITE), *query, start @ back, offset, 0.5, steps=12)
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
    small, coarse = level_of(camera, whole[None], 4).images[0], camera.resized(64, 64)
    fat = (small - picture(gaussians, coarse)).mean()  # on white: positive if too large
    leaner = replace(gaussians, opacity_logits=thinned_logits(gaussians, coarse, 4))
    lean = (small - picture(leaner, coarse)).mean()
    assert fat > 0
    assert abs(lean) < 0.7 * fat
    same = thinned_logits(gaussians, camera, 1).sigmoid()
    assert torch.allclose(same, gaussians.opacities, atol=1e-5)


def test_the_paper_preset_returns_a_complete_estimate():
    true = orbit(30)[17]
    settings = PoseSettings(method="adam", steps=8, schedule="official")
    hypotheses = [Hypothesis(disturbed(true.world_to_camera, 3), 1.0)]
    image = picture(tiny_object(), true)
    estimate = estimate_pose(tiny_model(), lens(), image, hypotheses, settings)
    assert estimate.steps == 8
    assert estimate.world_to_camera.dtype == torch.float64
    assert estimate.pose_ok is None
    assert 0 < estimate.loss < 0.1
    assert set(estimate.fit) == {"median", "upper", "mismatch"}
    assert estimate.seconds["refine"] > 0
    assert (PAPER.method, PAPER.steps, PAPER.learning_rate) == ("adam", 175, 0.001)


def test_an_object_out_of_the_frame_does_not_stop_adam():
    away = orbit(30)[0].world_to_camera.clone()
    away[2, 3] = -10.0
    blank = torch.ones(3, SIZE, SIZE)
    found, losses = refine_twist(tiny_model(), lens(), blank, away, ORIGIN, 0.5, steps=5)
    assert torch.isfinite(found).all()
    assert all(math.isfinite(loss) for loss in losses)


def test_wrong_sizes_and_missing_hypotheses_are_refused():
    camera = orbit(30)[0]
    hypotheses = [Hypothesis(camera.world_to_camera, 1.0)]
    with pytest.raises(InputError, match="resize"):
        estimate_pose(tiny_model(), camera, torch.ones(3, 10, 10), hypotheses)
    with pytest.raises(InputError, match="no coarse pose"):
        estimate_pose(tiny_model(), camera, torch.ones(3, SIZE, SIZE), [])


def test_known_residuals_correct_the_colours_that_poses_are_fitted_to():
    gaussians, true = tiny_object(), orbit(30)[11]
    gaussians.sh = gaussians.sh.abs()  # no colour is held at zero
    redder = torch.tensor([0.1, 0.0, 0.0]).expand(len(gaussians), 3)  # than the model says

    def sheen(rotations: Tensor) -> Tensor:
        assert torch.equal(rotations.float(), true.world_to_camera[:3, :3].float())
        return redder

    plain, level = ObjectRenderer(gaussians, WHITE), Level(lens(), torch.ones(1, 3, SIZE, SIZE))
    model = seen_from(plain, true.world_to_camera, level, level, sheen)
    change, alpha = (model(true).image - plain(true).image).detach(), plain(true).alpha.detach()
    assert torch.allclose(change[0], 0.1 * alpha, atol=0.03)
    assert change[1:].abs().max() < 0.02  # of what does not count as visible


def test_a_sheen_that_is_known_does_not_move_the_pose():
    gaussians, true = tiny_object(), orbit(30)[11]
    side = 0.5 * (gaussians.means[:, :1] > 0.1) * torch.tensor([1.0, 0.6, 0.2])
    level = Level(lens(), torch.ones(1, 3, SIZE, SIZE))
    shiny = seen_from(tiny_model(), true.world_to_camera, level, level, lambda rotations: side)
    image = shiny(true).image.detach()
    hypotheses = [Hypothesis(disturbed(true.world_to_camera, 3), 1.0)]
    errors = []
    for known in (None, lambda rotations: side):
        found = estimate_pose(tiny_model(), lens(), image, hypotheses, expected_residual=known)
        errors.append(float(rotation_error(found.world_to_camera, true.world_to_camera)))
    assert errors[1] < 0.2 * errors[0]
