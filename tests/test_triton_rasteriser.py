"""Our Triton rasteriser against `reference`, in float64, in Triton's interpreter or on a GPU."""

import pytest
import torch
from interpreted_triton import DEVICE
from small_scene import CAMERA, cloud, outputs, variants_of, view_at
from torch import Tensor

from gaussian_renderer import reference
from gaussian_renderer.backend import one_by_one
from gaussian_renderer.triton import BACKEND as ours
from gaussian_renderer.triton.binning import bin_splats, cover, tiles_of
from gaussian_renderer.triton.projection import project
from scene import Gaussians

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


@pytest.mark.parametrize("own_colours", [False, True])
def test_variants_in_one_call_are_clouds_of_their_own(own_colours: bool) -> None:
    """Each view shows a variant, or other colours of the same Gaussians."""
    variants, owners = (None, None) if own_colours else (variants_of(3), torch.tensor([2, 0, 1]))
    colours = torch.rand(3, 30, 3, dtype=torch.float64) if own_colours else None
    background = torch.tensor([0.9, 0.8, 1.0], dtype=torch.float64)
    results = []
    for rasterise_views in (ours.rasterise_views, one_by_one(reference.rasterise)):
        assert rasterise_views is not None
        moving = torch.stack([view_at(7.0 * n) for n in range(3)]).requires_grad_(True)
        images = rasterise_views(
            cloud(), CAMERA, moving, background, colours, variants=variants, owners=owners
        ).images
        g = torch.Generator().manual_seed(0)
        weights = torch.rand(images.shape, generator=g).double()
        (slope,) = torch.autograd.grad((images * weights).sum(), moving)
        results.append((images.detach(), slope))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=CONSTANTS * float(expected.norm()))


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
