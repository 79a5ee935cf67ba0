"""Densification: counts, positions, opacities, and where every row goes: moments must follow."""

import math

import pytest
import torch
from torch import Tensor

from scene import CappedDensify, DensifyStatistics, Gaussians, PaperDensify, carry, prune
from scene.densify import chain, clone, reset_opacity, split


def cloud(count: int = 6, scale: float = 0.1, opacity: float = 0.5) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(count, 3, generator=generator),
        log_scales=torch.full((count, 3), math.log(scale)),
        quaternions=torch.randn(count, 4, generator=generator),
        opacity_logits=torch.full((count,), math.log(opacity / (1 - opacity))),
        sh=torch.randn(count, 4, 3, generator=generator),
    ).requires_grad_()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_scores(scores: Tensor) -> DensifyStatistics:
    statistics = DensifyStatistics.zeros(len(scores))
    statistics.score_sum += scores
    statistics.count += 1
    return statistics


def assert_rows_follow(old: Gaussians, new: Gaussians, source: Tensor) -> None:
    kept = source >= 0
    for name, tensor in new.named_tensors().items():
        assert torch.equal(tensor[kept], old.named_tensors()[name][source[kept]]), name
        assert not tensor.requires_grad


def test_clone() -> None:
    old = cloud()
    new, source = clone(old, torch.tensor([1, 4]))
    assert source.tolist() == [0, 1, 2, 3, 4, 5, -1, -1]
    assert_rows_follow(old, new, source)
    assert torch.equal(new.means[6:], old.means[[1, 4]])
    assert torch.equal(new.sh[6:], old.sh[[1, 4]])


def test_split() -> None:
    old = cloud(scale=0.1)
    new, source = split(old, torch.tensor([0, 3]), seeded())
    assert source.tolist() == [1, 2, 4, 5, -1, -1, -1, -1]
    assert_rows_follow(old, new, source)
    torch.testing.assert_close(new.scales[4:], torch.full((4, 3), 0.1 / 1.6))
    assert torch.equal(new.quaternions[4:], old.quaternions[[0, 0, 3, 3]])
    offsets = (new.means[4:] - old.means[[0, 0, 3, 3]]).norm(dim=1)
    assert ((offsets > 0) & (offsets < 0.6)).all()


def test_split_draws_from_the_rotated_gaussian() -> None:
    # long axis along x, turned by a quarter about z: the children must spread along y
    old = Gaussians(
        means=torch.tensor([[1.0, 2.0, 3.0]]),
        log_scales=torch.tensor([[2.0, 1e-3, 1e-3]]).log(),
        quaternions=torch.tensor([[math.cos(math.pi / 4), 0, 0, math.sin(math.pi / 4)]]) * 3,
        opacity_logits=torch.zeros(1),
        sh=torch.zeros(1, 1, 3),
    )
    new, _ = split(old, torch.tensor([0]), seeded(), children=4000)
    spread = new.means.std(dim=0)
    assert spread[1] == pytest.approx(2.0, rel=0.05)
    assert spread[[0, 2]].max() < 0.01
    torch.testing.assert_close(new.means.mean(0), old.means[0], atol=0.15, rtol=0)


def test_split_is_the_same_for_a_seed() -> None:
    index = torch.tensor([0, 3])
    first, second, other = (split(cloud(), index, seeded(s))[0].means for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_prune() -> None:
    old = cloud()
    new, source = prune(old, torch.tensor([True, False, False, True, False, True]))
    assert source.tolist() == [1, 2, 4]
    assert_rows_follow(old, new, source)


def test_reset_opacity() -> None:
    old = cloud(opacity=0.5)
    with torch.no_grad():
        old.opacity_logits[2] = -7.0
    new, source = reset_opacity(old)
    torch.testing.assert_close(new.opacities[[0, 1]], torch.full((2,), 0.01))
    assert new.opacity_logits[2] == -7
    assert old.opacity_logits[0] == 0  # the old cloud is untouched
    assert source.tolist() == list(range(6))


def test_moments_follow_their_rows() -> None:
    moments = torch.arange(1.0, 5.0)[:, None].repeat(1, 3)
    carried = carry(moments, torch.tensor([3, -1, 0]))
    assert carried[:, 0].tolist() == [4, 0, 1]
    assert moments[0, 0] == 1
    first, second = torch.tensor([2, 0, -1]), torch.tensor([-1, 2, 0, 1])
    assert chain(first, second).tolist() == [-1, -1, 2, 0]


def test_statistics_are_in_normalised_device_coordinates() -> None:
    statistics = DensifyStatistics.zeros(3)
    gradient = torch.tensor([[3e-3, 0.0], [0.0, 4e-3], [1.0, 1.0]])
    statistics.update(gradient, torch.tensor([5, 2, 0], dtype=torch.int32), 400, 200)
    statistics.update(torch.zeros(3, 2), torch.tensor([1, 0, 0], dtype=torch.int32), 400, 200)
    # 3e-3 * 200 over two views, 4e-3 * 100 over one; the third was never drawn
    torch.testing.assert_close(statistics.score, torch.tensor([0.3, 0.4, 0.0]))


def paper_policy(**settings: int | bool) -> PaperDensify:
    return PaperDensify(extent=10.0, generator=seeded(), **settings)  # type: ignore[arg-type]


def test_paper_schedule() -> None:
    quiet = with_scores(torch.zeros(6))
    acts = {
        step: densified.forgets_opacity
        for step in (1, 499, 500, 501, 600, 650, 2900, 3000, 14_900, 15_000, 18_000)
        if (densified := paper_policy().densify(step, cloud(), quiet)) is not None
    }
    assert acts == {500: True, 600: False, 2900: False, 3000: True, 14_900: False}
    assert paper_policy(white_background=False).densify(500, cloud(), quiet) is None


def test_paper_clones_small_ones_and_splits_large_ones() -> None:
    gaussians = cloud(scale=0.05)  # below 0.01 * extent = 0.1
    with torch.no_grad():
        gaussians.log_scales[1] = math.log(0.2)
        gaussians.log_scales[2] = math.log(0.2)
        gaussians.opacity_logits[5] = -8.0
    scores = torch.tensor([3e-4, 3e-4, 1e-4, 1e-4, 2e-4, 0.0])
    densified = paper_policy().densify(600, gaussians, with_scores(scores))
    assert densified is not None
    # 0 and 4 cloned, 1 split, 5 pruned
    assert densified.source.tolist() == [0, 2, 3, 4, -1, -1, -1, -1]
    assert_rows_follow(gaussians, densified.gaussians, densified.source)
    assert torch.equal(densified.gaussians.means[4:6], gaussians.means[[0, 4]])
    torch.testing.assert_close(densified.gaussians.scales[6:], torch.full((2, 3), 0.2 / 1.6))


def test_paper_removes_huge_ones_after_the_first_reset() -> None:
    gaussians = cloud()
    with torch.no_grad():
        gaussians.log_scales[3] = math.log(1.1)  # above 0.1 * extent
    quiet = with_scores(torch.zeros(6))
    early, late = (paper_policy().densify(step, gaussians, quiet) for step in (2900, 3100))
    assert early is not None
    assert late is not None
    assert early.source.tolist() == [0, 1, 2, 3, 4, 5]
    assert late.source.tolist() == [0, 1, 2, 4, 5]


def capped_policy(cap: int, **settings: object) -> CappedDensify:
    return CappedDensify(cap, extent=10.0, generator=seeded(), **settings)  # type: ignore[arg-type]


def test_capped_schedule() -> None:
    scores = with_scores(torch.ones(6))
    policy = capped_policy(100, start=200, stop=400)
    steps = [s for s in range(0, 601, 50) if policy.densify(s, cloud(), scores) is not None]
    assert steps == [200, 300, 400]


def test_capped_takes_the_highest_scores_first() -> None:
    gaussians = cloud(10, scale=0.05)
    scores = torch.tensor([0.0, 5, 1, 9, 2, 0, 8, 0, 0, 3])
    densified = capped_policy(100, share=0.3).densify(100, gaussians, with_scores(scores))
    assert densified is not None
    assert len(densified.gaussians) == 13
    assert sorted(densified.gaussians.means[10:].tolist()) == sorted(
        gaussians.means[[1, 3, 6]].tolist()
    )


def test_capped_never_exceeds_the_cap_and_reuses_freed_places() -> None:
    policy = capped_policy(12, share=1.0, is_outside=lambda means: means[:, 0] > 50)
    gaussians: Gaussians = cloud(10, scale=0.05)
    densified = policy.densify(100, gaussians, with_scores(torch.ones(10)))
    assert densified is not None
    assert len(densified.gaussians) == 12
    gaussians = densified.gaussians
    gaussians.means[0, 0] = 99.0
    gaussians.opacity_logits[1] = -9.0
    scores = torch.arange(12.0)
    densified = policy.densify(200, gaussians, with_scores(scores))
    assert densified is not None
    assert len(densified.gaussians) == 12
    assert densified.source.tolist() == [*range(2, 12), -1, -1]
    assert torch.equal(densified.gaussians.means[10:], gaussians.means[[10, 11]])


def test_capped_leaves_what_nobody_saw_alone() -> None:
    densified = capped_policy(100, share=1.0).densify(100, cloud(), with_scores(torch.zeros(6)))
    assert densified is not None
    assert densified.source.tolist() == list(range(6))


def test_densification_is_the_same_for_a_seed() -> None:
    gaussians = cloud(50, scale=0.3)
    scores = with_scores(torch.rand(50, generator=seeded(3)))
    first, second = (
        CappedDensify(70, 10.0, seeded(5)).densify(100, gaussians, scores) for _ in range(2)
    )
    assert first is not None
    assert second is not None
    assert torch.equal(first.gaussians.means, second.gaussians.means)
