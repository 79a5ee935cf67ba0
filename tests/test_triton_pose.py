"""Exact pose equations by Triton kernels against forward-mode autograd of the reference."""

import pytest
import torch
from interpreted_triton import DEVICE
from other_backends import registered
from small_scene import BACKGROUND, CAMERA, cloud, targets, variants_of, view_at, views_at

from gaussian_renderer import NormalEquations, PoseProblems, pose_normal_equations
from gaussian_renderer.triton import BACKEND as ours
from gaussian_renderer.triton import pose

CONSTANTS = 1e-7  # Triton rounds constants such as 0.99 to float32


def check(found: NormalEquations, expected: NormalEquations, tolerance: float) -> None:
    assert (found.jtj - expected.jtj).norm() < tolerance * expected.jtj.norm()
    assert (found.jtr - expected.jtr).norm() < tolerance * expected.jtr.norm()
    assert found.loss == pytest.approx(expected.loss, rel=tolerance)
    assert found.weight == pytest.approx(expected.weight, rel=tolerance)
    assert (found.inliers, found.pixels) == (expected.inliers, expected.pixels)


@pytest.mark.parametrize("degree", [0, 3])
def test_equations_are_those_of_reference(degree: int) -> None:
    gaussians = cloud(20, degree)
    gaussians.opacity_logits[3:6] = 6.0  # held at the largest alpha: does not move
    weights = torch.rand(CAMERA.height, CAMERA.width, dtype=torch.float64)
    weights[:, :5] = 0.0
    arguments = (gaussians, CAMERA.at(view_at(20)), targets(1)[0], BACKGROUND)
    with registered("interpreted", lambda: ours):
        found = pose_normal_equations(*arguments, huber=0.3, weights=weights, backend="interpreted")
    expected = pose_normal_equations(*arguments, huber=0.3, weights=weights, backend="reference")
    check(found, expected, CONSTANTS)


@pytest.mark.parametrize("at_once", [10**9, 1])
def test_equations_of_many_are_those_of_each(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pose, "_NUMBERS_AT_ONCE", at_once)
    variants, images = variants_of(3), targets(3)
    numbers = [2, 0]  # 1 has ended and dropped out
    with registered("interpreted", lambda: ours):
        problems = PoseProblems(
            variants, CAMERA, images, BACKGROUND, huber=0.3, backend="interpreted"
        )
        found = problems(numbers, views_at(3)[numbers])
    for number, equations in zip(numbers, found, strict=True):
        alone = pose_normal_equations(
            variants.gaussians_of(number), CAMERA.at(views_at(3)[number]), images[number],
            BACKGROUND, huber=0.3, backend="reference",
        )  # fmt: skip
        check(equations, alone, CONSTANTS)


def test_float32_on_the_device_of_this_machine() -> None:
    gaussians = cloud(20, 1).map(lambda t: t.float().to(DEVICE))
    aim, background = targets(1).float().to(DEVICE), BACKGROUND.float().to(DEVICE)
    assert ours.pose_rows is not None
    rows = ours.pose_rows(
        gaussians, CAMERA, view_at(20)[None].to(DEVICE), aim, background, 0.3,
        owners=torch.zeros(1, dtype=torch.int64, device=DEVICE),
    )  # fmt: skip
    expected = pose_normal_equations(
        gaussians.map(lambda t: t.double().cpu()), CAMERA.at(view_at(20)), aim[0].double().cpu(),
        background.double().cpu(), huber=0.3, backend="reference",
    )  # fmt: skip
    check(NormalEquations.from_row(rows[0].cpu()), expected, 1e-4)
