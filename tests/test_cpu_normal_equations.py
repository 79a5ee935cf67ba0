"""Normal equations of the pose: against float64 forward-mode autograd, and as a gradient."""

import math

import pytest
import torch
from cpu_scenes import POSE, camera, cloud, relative_error

from gaussian_renderer import pose_normal_equations
from scene import InputError

WHITE = torch.ones(3)


def _target() -> torch.Tensor:
    return torch.rand(3, 61, 70, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("huber", [math.inf, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_match_the_reference(degree: int, huber: float, weighted: bool) -> None:
    gaussians = cloud(degree=degree)
    weights = torch.rand(61, 70, generator=torch.Generator().manual_seed(1)) - 0.2
    options = {"huber": huber, "weights": weights.clamp_min(0) if weighted else None}
    found, truth = (
        pose_normal_equations(
            gaussians.map(lambda t, to=dtype: t.to(to)), camera(), _target(), 0.5 * WHITE, POSE,
            backend=backend, **options,
        )
        for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64))
    )  # fmt: skip
    assert relative_error(found.jtj, truth.jtj) < 1e-5
    assert relative_error(found.jtr, truth.jtr) < 1e-4
    assert found.loss == pytest.approx(truth.loss, rel=1e-5)
    assert found.weight == pytest.approx(truth.weight, rel=1e-5)
    assert (found.inliers, found.pixels) == (truth.inliers, truth.pixels)


def test_right_hand_side_is_the_gradient_of_the_loss() -> None:
    gaussians = cloud(degree=2).map(torch.Tensor.double)
    step = 1e-6
    twist = torch.tensor([0.3, -0.5, 0.2, 0.4, 0.1, -0.6], dtype=torch.float64)
    generator = torch.zeros(4, 4, dtype=torch.float64)
    x, y, z = twist[:3]
    generator[:3, :3] = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    generator[:3, 3] = twist[3:]
    view = camera()
    losses = []
    for sign in (1, -1):
        moved = torch.linalg.matrix_exp(sign * step * generator) @ view.world_to_camera
        equations = pose_normal_equations(
            gaussians, view.at(moved), _target(), WHITE, huber=0.2, backend="reference"
        )
        losses.append(equations.loss)
    equations = pose_normal_equations(
        gaussians, view, _target(), WHITE, huber=0.2, backend="reference"
    )
    assert float(equations.jtr @ twist) == pytest.approx(
        (losses[0] - losses[1]) / (2 * step), rel=1e-4
    )


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    one, many = (
        pose_normal_equations(
            cloud(2000, degree=1), camera(), _target(), WHITE, backend="cpu", threads=n
        )
        for n in (1, threads)
    )
    assert torch.equal(one.jtj, many.jtj)
    assert torch.equal(one.jtr, many.jtr)
    assert one.loss == many.loss


def test_a_cloud_out_of_sight_says_nothing() -> None:
    gaussians = cloud()
    gaussians.means[:, 2] -= 10
    equations = pose_normal_equations(gaussians, camera(), _target(), WHITE, backend="cpu")
    assert equations.jtj.abs().max() == 0
    assert equations.loss > 0
    assert equations.pixels == 61 * 70


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(InputError, match="target has shape"):
        pose_normal_equations(cloud(), camera(), _target()[:, 1:], WHITE, backend="cpu")
    with pytest.raises(InputError, match="huber"):
        pose_normal_equations(cloud(), camera(), _target(), WHITE, huber=0.0, backend="cpu")
