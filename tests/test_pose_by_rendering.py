"""Pose equations by perturbed renders against forward-mode differentiation of `reference`."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from other_backends import registered
from small_scene import BACKGROUND, CAMERA, cloud, targets, variants_of, view_at, views_at
from torch import Tensor

from gaussian_renderer import (
    NormalEquations,
    ObjectRenderer,
    PoseProblems,
    contributions,
    object_renderer,
    pose_by_rendering,
    pose_normal_equations,
    reference,
    select_backend,
)
from gaussian_renderer.backend import one_by_one
from gaussian_renderer.pose_by_rendering import pose_rows_by_rendering
from pose_estimation.levenberg_marquardt import Equations, levenberg_marquardt
from scene.se3 import twist_exp

FIRST = torch.zeros(1, dtype=torch.int64)
PLAIN = replace(reference.BACKEND, name="plain", pose_rows=None)
MANY = replace(PLAIN, name="many", rasterise_views=one_by_one(reference.rasterise))


@pytest.fixture
def many() -> Iterator[None]:
    """A backend that renders many views and has no pose equations of its own, as gsplat."""
    with registered("many", lambda: MANY):
        yield


def check(found: NormalEquations, exact: NormalEquations, tolerance: float) -> None:
    """The gradient and the sums are exact; J^T W J to a tolerance."""
    torch.testing.assert_close(found.jtr, exact.jtr, rtol=1e-8, atol=1e-8)
    assert (found.jtj - exact.jtj).norm() <= tolerance * exact.jtj.norm()
    assert found.loss == pytest.approx(exact.loss)
    assert found.weight == pytest.approx(exact.weight)
    assert (found.inliers, found.pixels) == (exact.inliers, exact.pixels)


@pytest.mark.parametrize("huber", [0.05, float("inf")])
def test_equations_are_those_of_their_definition(huber: float) -> None:
    weights = torch.rand(1, CAMERA.height, CAMERA.width, dtype=torch.float64)
    weights[:, :5] = 0
    problem = cloud(), CAMERA, view_at(25)[None], targets(1), BACKGROUND, huber
    found = pose_rows_by_rendering(PLAIN, *problem, owners=FIRST, weights=weights)
    exact = reference.pose_rows(*problem, owners=FIRST, weights=weights)
    check(NormalEquations.from_row(found[0]), NormalEquations.from_row(exact[0]), 0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_matrix_keeps_its_weak_directions(dtype: torch.dtype) -> None:
    """Turning and shifting look alike from afar: what tells them apart must survive the noise."""
    arguments = view_at(25)[None], targets(1).to(dtype), BACKGROUND.to(dtype), float("inf")
    found = pose_rows_by_rendering(
        PLAIN, cloud().map(lambda t: t.to(dtype)), CAMERA, *arguments, owners=FIRST
    )
    exact = reference.pose_rows(
        cloud(), CAMERA, view_at(25)[None], targets(1), BACKGROUND, float("inf"), owners=FIRST
    )
    metric, expected = (rows[0, :36].reshape(6, 6) for rows in (found, exact))
    whitening = torch.linalg.inv(torch.linalg.cholesky(expected))
    spread = torch.linalg.eigvalsh(whitening @ metric @ whitening.T)  # 1 if they are equal
    assert torch.linalg.cond(expected) > 100
    assert spread.min() > 0.9
    assert spread.max() < 1.1


def test_a_backend_without_equations_of_its_own_takes_them_by_rendering() -> None:
    arguments = cloud(), CAMERA.at(view_at(25)), targets(1)[0], BACKGROUND
    exact = pose_normal_equations(*arguments, backend="reference")
    with registered("plain", lambda: PLAIN):
        found = pose_normal_equations(*arguments, backend="plain")
    check(found, exact, 0.1)


@pytest.mark.parametrize("at_once", [12, 30, 240])
def test_equations_of_many_are_those_of_each(
    at_once: int, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pose_by_rendering, "_VIEWS_AT_ONCE", at_once)
    variants, images = variants_of(4), targets(4)
    problems = PoseProblems(variants, CAMERA, images, BACKGROUND, huber=0.3, backend="many")
    numbers = [3, 0, 1]  # 2 has ended and dropped out
    found = problems(numbers, views_at(4)[numbers])
    for number, ours in zip(numbers, found, strict=True):
        alone = pose_normal_equations(
            variants.gaussians_of(number), CAMERA.at(views_at(4)[number]), images[number],
            BACKGROUND, huber=0.3, backend="many",
        )  # fmt: skip
        check(ours, alone, 1e-6)


def test_equations_of_many_by_the_cpu_kernel_are_those_of_each() -> None:
    variants, images = variants_of(3), targets(3).float()
    variants = replace(
        variants, gaussians=variants.gaussians.map(Tensor.float),
        opacity_logits=variants.opacity_logits.float(),
        sh_constant=variants.sh_constant.float(),  # type: ignore[union-attr]
    )  # fmt: skip
    found = PoseProblems(variants, CAMERA, images, BACKGROUND, backend="cpu")([2, 0], views_at(2))
    for number, view, ours in zip([2, 0], views_at(2), found, strict=True):
        alone = pose_normal_equations(
            variants.gaussians_of(number), CAMERA.at(view), images[number], BACKGROUND.float(),
            backend="cpu",
        )  # fmt: skip
        assert torch.equal(ours.jtj, alone.jtj)
        assert ours.loss == alone.loss


@pytest.mark.parametrize("backend", ["many", "reference"])
def test_contributions_to_many_views_are_those_to_each(
    backend: str, many: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_renderer, "_VIEWS_AT_ONCE", 2)
    model = ObjectRenderer(cloud(), BACKGROUND, backend)
    found = contributions(model, CAMERA, views_at(5))
    zeros = torch.zeros(1, CAMERA.height, CAMERA.width, dtype=torch.float64)
    for view, weights in zip(views_at(5), found, strict=True):
        torch.testing.assert_close(weights, model.splat(CAMERA.at(view), zeros)[1])


def test_levenberg_marquardt_ends_where_exact_equations_end() -> None:
    gaussians, truth, camera = cloud(), view_at(25), CAMERA.resized(23, 19)
    start = twist_exp(torch.tensor([0.02, -0.03, 0.01, 0.05, 0.02, -0.04]).double()) @ truth
    screen = torch.zeros(len(gaussians), 2, dtype=torch.float64)
    target = reference.rasterise(gaussians, camera, truth, BACKGROUND, None, False, screen, 1)[0]
    target[:, :7, :10] = 0.2  # a defect, which the robust cost must not follow

    def end(backend: str) -> Tensor:
        def equations(_: Tensor, poses: Tensor) -> Equations:
            found = pose_normal_equations(
                gaussians, camera.at(poses[0]), target, BACKGROUND, backend=backend
            )
            loss = torch.tensor([found.loss], dtype=torch.float64)
            return Equations(found.jtj[None], found.jtr[None], loss)

        middle = gaussians.means.mean(0)
        descent = levenberg_marquardt(equations, start[None], middle, 0.9, evaluations=10)
        return descent.world_to_camera[0]

    with registered("plain", lambda: PLAIN):
        assert select_backend("plain").pose_rows is None
        difference = end("plain") @ torch.linalg.inv(end("reference"))
    assert (difference - torch.eye(4)).abs().max() < 1e-3
