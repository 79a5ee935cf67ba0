"""The pixel Jacobian by perturbed renders against forward-mode differentiation of `reference`."""

import pytest
import torch
from cuda_scene import CAMERA, cloud, view_at
from torch import Tensor

from gaussian_renderer import cuda_pose, normal_equations, reference
from pose_estimation.levenberg_marquardt import levenberg_marquardt
from scene import Gaussians

BACKGROUND = torch.tensor([0.9, 0.8, 1.0], dtype=torch.float64)


def exact_jacobian(gaussians: Gaussians, view: Tensor) -> Tensor:
    """[6, 3, H, W] by six forward-mode passes."""
    screen = torch.zeros(len(gaussians), 2, dtype=torch.float64)

    def image(twist: Tensor) -> Tensor:
        moved = torch.linalg.matrix_exp(cuda_pose.hat(twist)) @ view
        return reference.rasterise(
            gaussians, CAMERA, moved, BACKGROUND, None, False, screen, 1
        )[0]  # fmt: skip

    zero = torch.zeros(6, dtype=torch.float64)
    columns = [torch.func.jvp(image, (zero,), (unit,))[1] for unit in torch.eye(6).double()]
    return torch.stack(columns)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perturbed_renders_give_the_derivatives(dtype: torch.dtype) -> None:
    gaussians, view = cloud(), view_at(25)
    exact = exact_jacobian(gaussians, view)
    ours = cuda_pose.pixel_jacobian(
        gaussians.map(lambda t: t.to(dtype)), CAMERA, view, BACKGROUND, backend="reference"
    )
    assert ours.dtype == dtype
    for column, expected in zip(ours.double(), exact, strict=True):
        assert (column - expected).norm() < 0.06 * expected.norm()


def test_normal_matrix_keeps_its_weak_directions() -> None:
    """Turning and shifting look alike from afar: what tells them apart must survive the noise."""
    gaussians, view = cloud(), view_at(25)
    exact = exact_jacobian(gaussians, view).flatten(1)
    ours = cuda_pose.pixel_jacobian(
        gaussians.map(Tensor.float), CAMERA, view, BACKGROUND, backend="reference"
    ).double().flatten(1)  # fmt: skip
    metric, expected = ours @ ours.T, exact @ exact.T
    whitening = torch.linalg.inv(torch.linalg.cholesky(expected))
    spread = torch.linalg.eigvalsh(whitening @ metric @ whitening.T)  # 1 if they are equal
    assert torch.linalg.cond(expected) > 100
    assert spread.min() > 0.9
    assert spread.max() < 1.1


@pytest.mark.parametrize("huber", [0.05, float("inf")])
def test_normal_sums_against_their_definition(huber: float) -> None:
    gaussians, view = cloud(), view_at(25)
    g = torch.Generator().manual_seed(2)
    weights = torch.rand(CAMERA.height, CAMERA.width, generator=g, dtype=torch.float64)
    weights[:5] = 0
    screen = torch.zeros(len(gaussians), 2, dtype=torch.float64)
    image = reference.rasterise(gaussians, CAMERA, view, BACKGROUND, None, False, screen, 1)[0]
    target = image + 0.1 * torch.randn(image.shape, generator=g, dtype=torch.float64)
    sums = cuda_pose.normal_sums(
        gaussians, CAMERA, view, target, BACKGROUND, huber, weights, backend="reference"
    )
    jacobian, residual = exact_jacobian(gaussians, view), image - target
    norm = residual.square().sum(0).sqrt()
    robust = weights * torch.where(norm <= huber, torch.ones(()).double(), huber / norm)
    jtr = torch.einsum("ichw,chw->i", jacobian, robust * residual)
    torch.testing.assert_close(
        torch.tensor(sums.jtr, dtype=torch.float64), jtr, rtol=1e-8, atol=1e-8
    )
    jtj = torch.einsum("ichw,hw,jchw->ij", jacobian, robust, jacobian)
    ours = torch.tensor(sums.jtj, dtype=torch.float64).reshape(6, 6)
    assert (ours - jtj).norm() < 0.1 * jtj.norm()
    least_squares = 0.5 * norm**2
    cost = torch.where(norm <= huber, least_squares, huber * (norm - 0.5 * huber))
    assert sums.loss == pytest.approx(float((weights * cost).sum()))
    assert sums.weight == pytest.approx(float(robust.sum()))
    assert sums.pixels == (CAMERA.height - 5) * CAMERA.width
    assert sums.inliers == int(((norm <= huber) & (weights > 0)).sum())


def test_a_cuda_backend_takes_the_equations_by_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `reference` in the place of gsplat, the two ways must tell the same."""
    gaussians, camera = cloud(), CAMERA.at(view_at(25))
    target = torch.full((3, CAMERA.height, CAMERA.width), 0.5, dtype=torch.float64)
    exact = normal_equations.pose_normal_equations(
        gaussians, camera, target, BACKGROUND, backend="reference"
    )
    monkeypatch.setattr(normal_equations, "available_backends", lambda device: ["gsplat"])
    for module in ("normal_equations", "cuda_pose", "batch"):
        monkeypatch.setattr(
            f"gaussian_renderer.{module}.select_backend", lambda name, device: reference
        )
    ours = normal_equations.pose_normal_equations(gaussians, camera, target, BACKGROUND)
    torch.testing.assert_close(ours.jtr, exact.jtr)
    assert (ours.jtj - exact.jtj).norm() < 0.1 * exact.jtj.norm()
    assert ours.loss == pytest.approx(exact.loss)
    assert (ours.inliers, ours.pixels) == (exact.inliers, exact.pixels)


def test_small_motions_are_matrix_exponentials() -> None:
    twists = torch.randn(50, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    twists[:, :3] *= 0.3 / twists[:, :3].norm(dim=1, keepdim=True)
    exact = torch.linalg.matrix_exp(cuda_pose.hat(twists))
    torch.testing.assert_close(cuda_pose.small_motion(twists), exact, rtol=0, atol=1e-14)


def test_twist_about_the_centre_moves_points_the_same_way() -> None:
    centre = torch.tensor([0.2, -0.3, 3.0], dtype=torch.float64)
    twist = 1e-6 * torch.tensor([1.0, -2.0, 0.5, 0.3, 0.2, -1.0], dtype=torch.float64)
    point = torch.tensor([0.5, 0.4, 2.5], dtype=torch.float64)
    about_centre = cuda_pose.to_centre(centre) @ twist
    omega, v = about_centre[:3], about_centre[3:]
    expected = torch.linalg.cross(twist[:3], point) + twist[3:]
    torch.testing.assert_close(torch.linalg.cross(omega, point - centre) + v, expected)


def test_levenberg_marquardt_ends_where_exact_equations_end() -> None:
    gaussians, truth, camera = cloud(), view_at(25), CAMERA.resized(23, 19)
    generator = cuda_pose.hat(torch.tensor([0.02, -0.03, 0.01, 0.05, 0.02, -0.04]).double())
    start = torch.linalg.matrix_exp(generator) @ truth
    screen = torch.zeros(len(gaussians), 2, dtype=torch.float64)
    target = reference.rasterise(gaussians, camera, truth, BACKGROUND, None, False, screen, 1)[0]
    target[:, :7, :10] = 0.2  # a defect, which the robust cost must not follow

    def by_rendering(pose: Tensor) -> normal_equations.NormalEquations:
        sums = cuda_pose.normal_sums(
            gaussians, camera, pose, target, BACKGROUND, 0.1, backend="reference"
        )
        jtj, jtr = (torch.tensor(x, dtype=torch.float64) for x in (sums.jtj, sums.jtr))
        return normal_equations.NormalEquations(jtj.reshape(6, 6), jtr, *sums[2:])

    def exact(pose: Tensor) -> normal_equations.NormalEquations:
        return normal_equations.pose_normal_equations(
            gaussians, camera.at(pose), target, BACKGROUND, backend="reference"
        )

    ends = [
        levenberg_marquardt(equations, start, gaussians.means.mean(0), 0.9, evaluations=10)
        for equations in (by_rendering, exact)
    ]
    difference = ends[0].world_to_camera @ torch.linalg.inv(ends[1].world_to_camera)
    assert (difference - torch.eye(4)).abs().max() < 1e-3
    assert ends[0].loss == pytest.approx(ends[1].loss, rel=1e-3)
