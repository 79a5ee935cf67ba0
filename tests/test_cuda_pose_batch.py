"""Many pose problems in few render calls against each of them alone."""

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cuda_scene
import gsplat_stand_in
import pytest
import torch
from cuda_scene import cloud, view_at
from many_views import one_after_the_other
from pose_scenes import WHITE, lens, orbit, picture, tiny_object
from pretend_cuda import Waits, mark, pretended_gpu
from test_pose_refine import disturbed
from torch import Tensor

from gaussian_renderer import contribution, cpu, cuda_pose, gsplat, pose_problems, reference
from gaussian_renderer.contribution import contributions
from gaussian_renderer.normal_equations import NormalEquations
from gaussian_renderer.object_renderer import ObjectRenderer
from gaussian_renderer.pose_problems import PoseProblems
from gaussian_renderer.variants import Variants
from pose_estimation import (
    Hypothesis,
    PoseEstimate,
    PoseSettings,
    estimate_pose,
    estimate_poses,
    problem,
)
from pose_estimation.pose_check import PoseCheck
from scene import InputError

CAMERA = replace(cuda_scene.CAMERA, cx=22.5, cy=18.5)  # gsplat clamps otherwise off the centre
BACKGROUND = torch.tensor([0.9, 0.8, 1.0], dtype=torch.float64)


def variants_of(count: int) -> Variants:
    """Differently visible, opaque and coloured variants of one cloud."""
    g = torch.Generator().manual_seed(9)
    gaussians = cloud()
    visible = torch.rand(count, len(gaussians), generator=g) > 0.3
    logits = gaussians.opacity_logits + torch.randn(count, len(gaussians), generator=g).double()
    logits[0, :5] = -9.0  # less than 1/255: thinned until nothing was left
    constant = gaussians.sh[:, 0] + 0.2 * torch.randn(count, len(gaussians), 3, generator=g)
    return Variants(gaussians, visible, logits, constant)


def views(count: int) -> Tensor:
    return torch.stack([view_at(7.0 * number) for number in range(count)])


def targets(count: int) -> Tensor:
    g = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, CAMERA.height, CAMERA.width, generator=g, dtype=torch.float64)


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter to gsplat before its stand-in, on the CPU."""
    monkeypatch.setitem(sys.modules, "gsplat", gsplat_stand_in.package())
    for module in (pose_problems, contribution, cuda_pose):
        monkeypatch.setattr(module, "select_backend", lambda name, device: gsplat)


def test_variants_render_as_clouds_of_their_own(adapter: None) -> None:
    variants, owners = variants_of(3), torch.tensor([2, 0, 1, 0])
    moving = views(4).requires_grad_(True)
    splats = gsplat.rasterise_views(
        variants.gaussians, CAMERA, moving, BACKGROUND, variants=variants, owners=owners
    )
    weights = torch.rand(splats.images.shape, generator=torch.Generator().manual_seed(0)).double()
    (gradients,) = torch.autograd.grad((splats.images * weights).sum(), moving)
    for number, owner in enumerate(owners.tolist()):
        own = variants.gaussians_of(owner)
        view = views(4)[number].requires_grad_(True)
        screen = torch.zeros(len(own), 2, dtype=torch.float64)
        image, *_ = reference.rasterise(own, CAMERA, view, BACKGROUND, None, False, screen, 1)
        torch.testing.assert_close(splats.images[number], image, rtol=0, atol=1e-9)
        (gradient,) = torch.autograd.grad((image * weights[number]).sum(), view)
        torch.testing.assert_close(gradients[number], gradient, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("at_once", [12, 30, 240])
def test_equations_of_many_are_those_of_each(
    at_once: int, adapter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pose_problems, "_VIEWS_AT_ONCE", at_once)
    variants, pictures = variants_of(4), targets(4)
    problems = PoseProblems(variants, CAMERA, pictures, BACKGROUND, huber=0.3)
    numbers = [3, 0, 1]  # 2 has ended and dropped out
    found = problems(numbers, views(4)[numbers])
    for number, ours in zip(numbers, found, strict=True):
        alone = cuda_pose.normal_sums(
            variants.gaussians_of(number), CAMERA, views(4)[number], pictures[number], BACKGROUND,
            0.3, backend="reference",
        )  # fmt: skip
        square = torch.tensor(alone.jtj, dtype=torch.float64).reshape(6, 6)
        torch.testing.assert_close(ours.jtj, square, rtol=1e-6, atol=1e-6 * square.abs().max())
        jtr = torch.tensor(alone.jtr, dtype=torch.float64)
        torch.testing.assert_close(ours.jtr, jtr, rtol=1e-7, atol=1e-7 * float(jtr.abs().max()))
        assert ours.loss == pytest.approx(alone.loss)
        assert ours.weight == pytest.approx(alone.weight)
        assert (ours.inliers, ours.pixels) == (alone.inliers, alone.pixels)


def test_contributions_to_many_views_at_once(
    adapter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contribution, "_VIEWS_AT_ONCE", 2)
    model = ObjectRenderer(cloud(), BACKGROUND, "reference")
    found = contributions(model, CAMERA, views(5))
    zeros = torch.zeros(1, CAMERA.height, CAMERA.width, dtype=torch.float64)
    for view, weights in zip(views(5), found, strict=True):
        torch.testing.assert_close(weights, model.splat(CAMERA.at(view), zeros)[1])


def queries(size: int = 64) -> tuple[list[Tensor], list[list[Hypothesis]]]:
    """Four pictures with different numbers of hypotheses; one shows something else."""
    gaussians, cameras = tiny_object(), orbit(7)
    truths = [cameras[number].world_to_camera for number in (1, 2, 4, 5)]
    images = [picture(gaussians, lens(pose, size)) for pose in truths]
    images[3] = torch.rand(3, size, size, generator=torch.Generator().manual_seed(1))
    guesses = [[8.0], [35.0, 6.0, 12.0], [10.0, 20.0], [15.0, 4.0]]
    hypotheses = [
        [Hypothesis(disturbed(true, angle, seed=n), -n) for n, angle in enumerate(angles)]
        for true, angles in zip(truths, guesses, strict=True)
    ]
    return images, hypotheses


class Gloss:
    """Residuals that a memory would expect."""

    def __init__(self, like: Tensor) -> None:
        self.mean = 0.02 * torch.ones_like(like)

    def expect(self, rotation: Tensor) -> SimpleNamespace:
        return SimpleNamespace(mean=self.mean.expand(*rotation.shape[:-2], *self.mean.shape))


def check_same(together: list[PoseEstimate], alone: list[PoseEstimate]) -> None:
    """The same ends up to rounding; a pose that was not found may lie anywhere."""
    for ours, expected in zip(together, alone, strict=True):
        assert ours.pose_ok == expected.pose_ok
        assert ours.loss == pytest.approx(expected.loss, rel=1e-3)
        if expected.pose_ok:
            assert ours.hypothesis == expected.hypothesis
            assert ours.steps == expected.steps
            torch.testing.assert_close(
                ours.world_to_camera, expected.world_to_camera, rtol=0, atol=1e-4
            )


CHECK = PoseCheck({"median": 0.06, "upper": 0.2, "mismatch": 0.12}, 3, 3)


def by_rendering(gaussians, camera, target, background, *, huber, backend, threads):  # type: ignore[no-untyped-def]
    """The pose equations of a CUDA backend, from any backend."""
    sums = cuda_pose.normal_sums(
        gaussians, camera, camera.world_to_camera, target, background, huber, backend=backend
    )
    jtj, jtr = (torch.tensor(values, dtype=torch.float64) for values in sums[:2])
    return NormalEquations(jtj.reshape(6, 6), jtr, *sums[2:])


def test_queries_end_where_each_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU kernel in the place of a GPU's: the whole search, a second try by Adam among it."""
    pytest.importorskip("splatpose_cpu")
    images, hypotheses = queries()
    gaussians = tiny_object()
    common = (WHITE, PoseSettings(backend="cpu"), CHECK, Gloss(gaussians.means))
    monkeypatch.setattr(problem, "pose_normal_equations", by_rendering)
    alone = estimate_poses(gaussians, lens(), images, hypotheses, *common)
    assert [found.pose_ok for found in alone] == [True, True, True, False]
    many = one_after_the_other(cpu.rasterise)
    monkeypatch.setattr(cpu, "rasterise_views", many, raising=False)
    monkeypatch.setattr(problem, "pose_normal_equations", None)  # nothing goes alone now
    check_same(estimate_poses(gaussians, lens(), images, hypotheses, *common), alone)


def test_queries_on_a_pretended_gpu_end_where_each_ends_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, hypotheses = queries(32)
    with pretended_gpu(monkeypatch):
        gaussians = tiny_object().map(lambda t: t.to("cuda"))
        pictures = [image.to("cuda") for image in images[:2]]
        guesses = [hypotheses[0], hypotheses[1][1:2]]
        common = (WHITE.to("cuda"), PoseSettings("lm"), CHECK, Gloss(gaussians.means))
        alone = [
            estimate_pose(gaussians, lens(size=32), image, own, *common)
            for image, own in zip(pictures, guesses, strict=True)
        ]
        together = estimate_poses(gaussians, lens(size=32), pictures, guesses, *common)
    check_same(together, alone)


def test_the_device_is_waited_for_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of problems, numbers come back from the GPU in one piece."""
    variants, images = variants_of(3), torch.zeros(36, 3, CAMERA.height, CAMERA.width)
    monkeypatch.setattr(pose_problems, "_VIEWS_AT_ONCE", 24)

    def render(self: Any, owners: Tensor, poses: Tensor) -> Tensor:
        """Instead of the renderer, which may wait by itself."""
        return mark(images[: len(owners)]) + poses.sum(dim=(1, 2))[:, None, None, None]

    with pretended_gpu(monkeypatch):
        there = Variants(
            variants.gaussians.map(lambda t: t.float().to("cuda")), variants.visible.to("cuda"),
            variants.opacity_logits.float().to("cuda"),
        )  # fmt: skip
        pictures, background = (t.float().to("cuda") for t in (targets(3), BACKGROUND))
        problems = PoseProblems(there, CAMERA, pictures, background)
        monkeypatch.setattr(PoseProblems, "_render", render)
        with Waits() as waits:
            assert len(problems([0, 1, 2], views(3))) == 3
    assert waits.names == ["cpu"]


def test_a_query_of_another_size_is_refused() -> None:
    images, hypotheses = queries()
    images[2] = images[2][:, :-1]
    with pytest.raises(InputError, match="resize"):
        estimate_poses(tiny_object(), lens(), images, hypotheses, WHITE)
