"""Our Triton rasteriser against `reference`, in float64, in Triton's interpreter or on a GPU."""

from pathlib import Path

import pytest
import torch
from cuda_scene import CAMERA, cloud, outputs, view_at
from interpreted_triton import DEVICE
from pretend_cuda import PretendCuda, mark, on_gpu, tensors_in
from test_cuda_pose_batch import variants_of
from torch import Tensor

import gaussian_renderer.triton as ours
from benchmarks import triton_settings
from gaussian_renderer import reference
from gaussian_renderer.triton import blending
from gaussian_renderer.triton.binning import bin_splats, cover, tiles_of
from gaussian_renderer.triton.projection import project
from scene import Camera, Gaussians, save_ply

CONSTANTS = 1e-7  # Triton rounds constants such as 0.99 to float32


def difficult() -> Gaussians:
    """Behind the camera, opaque until nothing goes through, faint, beside the image, a needle."""
    gaussians = cloud()
    gaussians.means[0, 2] = -9.0
    gaussians.opacity_logits[1:9] = 7.0
    gaussians.means[1:9] *= 0.2
    gaussians.opacity_logits[9] = -6.0
    gaussians.means[10, 0] = 40.0
    gaussians.log_scales[11] = torch.tensor([1.0, -6.0, -6.0])
    return gaussians


@pytest.mark.parametrize(("channels", "with_depth"), [(None, True), (1, False), (7, True)])
def test_images_and_gradients_are_those_of_reference(
    channels: int | None, with_depth: bool
) -> None:
    gaussians = difficult()
    g = torch.Generator().manual_seed(1)
    colours = channels and torch.rand(len(gaussians), channels, generator=g, dtype=torch.float64)
    background = torch.linspace(0.2, 0.9, channels or 3, dtype=torch.float64)
    found, our_gradients = outputs(ours, CAMERA, gaussians, colours, background, with_depth)
    expected, gradients = outputs(reference, CAMERA, gaussians, colours, background, with_depth)
    for image, true in zip(found, expected, strict=True):
        torch.testing.assert_close(image, true, rtol=0, atol=CONSTANTS)
    assert not found[-1][[0, 9, 10]].any()
    for name, gradient in gradients.items():
        if gradient is None:  # SH are not used when colours are given
            assert our_gradients[name] is None
            continue
        assert gradient.norm() > 0, name
        assert (our_gradients[name] - gradient).norm() < CONSTANTS * gradient.norm(), name


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_colours_of_every_degree(degree: int) -> None:
    gaussians, background = cloud(12, degree), torch.ones(3, dtype=torch.float64)
    found, our_gradients = outputs(ours, CAMERA, gaussians, None, background, False)
    expected, gradients = outputs(reference, CAMERA, gaussians, None, background, False)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=CONSTANTS)
    for name in ("means", "sh", "view"):
        difference = our_gradients[name] - gradients[name]
        assert difference.norm() < CONSTANTS * gradients[name].norm(), name


def test_variants_in_one_call_are_clouds_of_their_own() -> None:
    variants, owners = variants_of(3), torch.tensor([2, 0, 1])
    background = torch.tensor([0.9, 0.8, 1.0], dtype=torch.float64)
    moving = torch.stack([view_at(7.0 * n) for n in range(3)]).requires_grad_(True)
    splats = ours.rasterise_views(
        variants.gaussians, CAMERA, moving, background, variants=variants, owners=owners
    )
    weights = torch.rand(splats.images.shape, generator=torch.Generator().manual_seed(0)).double()
    (gradients,) = torch.autograd.grad((splats.images * weights).sum(), moving)
    for number, owner in enumerate(owners.tolist()):
        own = variants.gaussians_of(owner)
        view = moving[number].detach().requires_grad_(True)
        screen = torch.zeros(len(own), 2, dtype=torch.float64)
        image, *_ = reference.rasterise(own, CAMERA, view, background, None, False, screen, 1)
        torch.testing.assert_close(splats.images[number], image, rtol=0, atol=CONSTANTS)
        (gradient,) = torch.autograd.grad((image * weights[number]).sum(), view)
        assert (gradients[number] - gradient).norm() < CONSTANTS * gradient.norm()


def test_colours_of_each_view_its_own() -> None:
    gaussians, views = cloud(8), torch.stack([view_at(0), view_at(30)])
    colours = torch.rand(2, 8, 2, dtype=torch.float64)
    background = torch.zeros(2, dtype=torch.float64)
    splats = ours.rasterise_views(gaussians, CAMERA, views, background, colours)
    for image, view, own in zip(splats.images, views, colours, strict=True):
        screen = torch.zeros(8, 2, dtype=torch.float64)
        expected, *_ = reference.rasterise(
            gaussians, CAMERA, view, background, own, False, screen, 1
        )
        torch.testing.assert_close(image, expected, rtol=0, atol=CONSTANTS)


def test_nothing_in_sight_is_background() -> None:
    gaussians = cloud(5)
    gaussians.means[:, 2] = -20.0
    leaves = gaussians.map(lambda t: t.clone().requires_grad_(True))
    background = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    splats = ours.rasterise_views(leaves, CAMERA, view_at(0)[None], background)
    assert torch.equal(splats.images[0], background[:, None, None].expand(3, 37, 45))
    assert not splats.radii.any()
    splats.images.sum().backward()
    assert leaves.means.grad is not None
    assert not leaves.means.grad.any()


def test_float32_on_the_device_of_this_machine() -> None:
    gaussians = cloud(20).map(lambda t: t.float().to(DEVICE))
    background = torch.ones(3, device=DEVICE)
    view = view_at(10)
    splats = ours.rasterise_views(gaussians, CAMERA, view[None].to(gaussians.means), background)
    exact = gaussians.map(lambda t: t.double().cpu())
    screen = torch.zeros(20, 2, dtype=torch.float64)
    image, *_ = reference.rasterise(
        exact, CAMERA, view, background.double().cpu(), None, False, screen, 1
    )
    assert splats.images.dtype == torch.float32
    torch.testing.assert_close(splats.images[0].cpu().double(), image, rtol=0, atol=1e-5)


def tiles_by_hand(gaussians: Gaussians, view: Tensor) -> list[list[int]]:
    """The Gaussians whose rectangle holds a pixel's centre of each tile, nearest first."""
    shown = reference.project(gaussians, CAMERA, view, torch.zeros(len(gaussians), 2).double())
    across, down = tiles_of(CAMERA)
    lists: list[list[int]] = [[] for _ in range(across * down)]
    for index, mean, half in zip(shown.index, shown.means, shown.half_extents, strict=True):
        for tile in range(across * down):
            left, top = 16 * (tile % across), 16 * (tile // across)
            xs = torch.arange(left, min(left + 16, CAMERA.width)) + 0.5
            ys = torch.arange(top, min(top + 16, CAMERA.height)) + 0.5
            hit = ((xs - mean[0]).abs() <= half[0]).any() & ((ys - mean[1]).abs() <= half[1]).any()
            if hit:
                lists[tile].append(int(index))
    return lists


def test_lists_name_the_gaussians_of_every_tile_nearest_first() -> None:
    gaussians, views = difficult(), [view_at(0), view_at(40)]
    pixels, _, depths, spreads = project(
        gaussians.means, gaussians.log_scales, gaussians.quaternions, torch.stack(views), CAMERA
    )
    covers = cover(pixels, spreads, gaussians.opacities.expand(2, -1), CAMERA)
    bins = bin_splats(covers, depths, CAMERA)
    expected = [own for view in views for own in tiles_by_hand(gaussians, view)]
    found = [
        [int(splat) % len(gaussians) for splat in bins.splats[start:end]]
        for start, end in zip(bins.starts[:-1], bins.starts[1:], strict=True)
    ]
    assert found == expected
    assert int(bins.lengths.sum()) == len(bins.splats)
    owners = torch.repeat_interleave(bins.lengths)
    assert torch.equal(owners[bins.slots], bins.splats)


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU: nothing to pretend")
def test_everything_stays_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended GPU: what reaches a kernel, and what comes back, is there."""
    from triton.runtime.interpreter import GridExecutor

    launch, launched = GridExecutor.__call__, []

    def checked(self, *arguments, **named):  # type: ignore[no-untyped-def]
        launched.append(all(map(on_gpu, tensors_in([arguments, named]))))
        with torch._C.DisableTorchFunction():
            launch(self, *arguments, **named)

    monkeypatch.setattr(GridExecutor, "__call__", checked)
    gaussians, view = cloud(6).map(Tensor.float), view_at(10).float()
    with torch.no_grad(), PretendCuda():
        there = gaussians.map(lambda t: t.to("cuda"))
        views, background = view[None].to("cuda"), mark(torch.ones(3))
        splats = ours.rasterise_views(there, CAMERA, views, background, with_depth=True)
        rows = ours.pose_rows(
            there, CAMERA, views, mark(torch.zeros(1, 3, CAMERA.height, CAMERA.width)),
            background, 0.3, owners=mark(torch.zeros(1, dtype=torch.int64)),
        )  # fmt: skip
        assert all(map(on_gpu, [splats.images, splats.alphas, splats.depth_sums, rows]))
    assert len(launched) == 12
    assert all(launched)


def test_other_block_sizes_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_settings, "WARPS", (4,))
    (tmp_path / "point_cloud/iteration_1").mkdir(parents=True)
    save_ply(cloud(10).map(Tensor.float), tmp_path / "point_cloud/iteration_1/point_cloud.ply")
    (tmp_path / "config.json").write_text('{"background": [1.0, 1.0, 1.0]}')
    usual = blending.CHUNK, blending.WARPS
    small = Camera(view_at(10), 20.0, 20.0, 8.0, 8.0, 16, 16)
    found = triton_settings.compare_settings(tmp_path, small, DEVICE)
    assert set(found["blending"]) == {"4, 4", "8, 4", "16, 4"}
    assert found["largest_change"] < 1e-5
    assert usual == (blending.CHUNK, blending.WARPS)
