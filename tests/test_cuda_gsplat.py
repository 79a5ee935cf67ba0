"""The adapter to gsplat and batched rendering, held against `reference` through a stand-in for
gsplat's four stages (packed mode) that is built on the reference."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import cuda_scene
import pytest
import torch
from cuda_scene import cloud, outputs, view_at

from gaussian_renderer import backends, gsplat, reference
from gaussian_renderer.batch import render_batch
from scene import Camera, Gaussians

CAMERA = replace(cuda_scene.CAMERA, cx=22.5, cy=18.5)  # gsplat clamps otherwise off the centre


def fully_fused_projection(  # type: ignore[no-untyped-def]
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, radius_clip,
    packed, opacities,
):  # fmt: skip
    assert covars is None
    assert packed
    assert (eps2d, near_plane, radius_clip) == (0.3, 0.2, 0.0)
    logits = torch.logit(opacities)
    gaussians = Gaussians(means, scales.log(), quats, logits, means[:, None])
    parts = []
    for number, (view, k) in enumerate(zip(viewmats, Ks, strict=True)):
        camera = Camera(view, *(k[i, j].item() for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))),
                        width, height)  # fmt: skip
        p = reference.project(gaussians, camera, view, torch.zeros_like(means[:, :2]))
        shuffled = torch.arange(len(p.index) - 1, -1, -1)  # packed output is in no order of depth
        ids = torch.full((len(p.index),), number, dtype=torch.int32)
        radii = p.half_extents.ceil().to(torch.int32)
        fields = (ids, p.index.int(), radii, p.means, p.depths, p.conics)
        parts.append([field[shuffled] for field in fields])
    ids, index, radii, centres, depths, conics = (torch.cat(c) for c in zip(*parts, strict=True))
    return torch.zeros_like(ids), ids, index, radii, centres, depths, conics, None


def isect_tiles(  # type: ignore[no-untyped-def]
    means2d, radii, depths, tile_size, tile_width, tile_height, packed, n_images, image_ids,
    gaussian_ids,
):  # fmt: skip
    """The stand-in works on whole images: every Gaussian "meets" one tile, its image."""
    assert packed
    assert radii.shape == means2d.shape
    assert gaussian_ids.shape == depths.shape
    assert (tile_width, tile_height) == (3, 3)  # 45 x 37 px in tiles of 16
    order = torch.argsort(image_ids.double() * 1e6 + depths.detach(), stable=True)
    return torch.ones_like(image_ids), image_ids[order], order


def isect_offset_encode(isect_ids, n_images, tile_width, tile_height):  # type: ignore[no-untyped-def]
    starts = torch.searchsorted(isect_ids, torch.arange(n_images, dtype=isect_ids.dtype))
    return starts[:, None, None].expand(n_images, tile_height, tile_width)


class _AbsoluteGradient(torch.autograd.Function):
    """Leaves `.absgrad` on its input after backward, as gsplat does."""

    @staticmethod
    def forward(ctx, centres):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(centres)
        return centres.view_as(centres)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        ctx.saved_tensors[0].absgrad = gradient.abs()
        return gradient


def rasterize_to_pixels(  # type: ignore[no-untyped-def]
    means2d, conics, colors, opacities, image_width, image_height, tile_size, isect_offsets,
    flatten_ids, packed, absgrad,
):  # fmt: skip
    """Without `backgrounds`: gsplat 1.5.3 takes no background for every view in packed mode."""
    assert isect_offsets.shape[1:] == (3, 3)
    if absgrad:
        means2d = _AbsoluteGradient.apply(means2d)
    projected: Any = SimpleNamespace(means=means2d, conics=conics, opacities=opacities)
    xs, ys = (torch.arange(k, dtype=colors.dtype) + 0.5 for k in (image_width, image_height))
    starts = [*isect_offsets[:, 0, 0].tolist(), len(flatten_ids)]
    images, alphas = [], []
    for number in range(len(isect_offsets)):
        mine = flatten_ids[starts[number] : starts[number + 1]]
        image, alpha = reference._blend_tile(projected, colors, mine, xs, ys)
        images.append(image.reshape(image_height, image_width, -1))
        alphas.append(alpha.reshape(image_height, image_width, 1))
    return torch.stack(images), torch.stack(alphas)


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("gsplat")
    for stage in (fully_fused_projection, isect_tiles, isect_offset_encode, rasterize_to_pixels):
        setattr(fake, stage.__name__, stage)
    monkeypatch.setitem(sys.modules, "gsplat", fake)


@pytest.mark.parametrize("channels", [None, 1, 7])
@pytest.mark.parametrize("with_depth", [False, True])
def test_images_and_gradients_are_those_of_reference(
    channels: int | None, with_depth: bool
) -> None:
    gaussians = cloud()
    gaussians.means[0, 2] = -9.0  # behind the camera: not drawn
    g = torch.Generator().manual_seed(1)
    colours = channels and torch.rand(len(gaussians), channels, generator=g, dtype=torch.float64)
    background = torch.linspace(0.2, 0.9, channels or 3, dtype=torch.float64)
    ours, our_gradients = outputs(gsplat, CAMERA, gaussians, colours, background, with_depth)
    theirs, their_gradients = outputs(reference, CAMERA, gaussians, colours, background, with_depth)
    for ours_i, theirs_i in zip(ours, theirs, strict=True):
        torch.testing.assert_close(ours_i, theirs_i, rtol=0, atol=1e-9)
    assert not ours[-1][0]
    for name, expected in their_gradients.items():
        if expected is None:  # SH are not used when colours are given
            assert our_gradients[name] is None
            continue
        assert expected.norm() > 0, name
        assert (our_gradients[name] - expected).norm() < 1e-7 * expected.norm(), name


def test_absolute_screen_gradients_reach_their_gaussians() -> None:
    gaussians = cloud().requires_grad_()
    background = torch.ones(3, dtype=torch.float64)
    splats = gsplat.rasterise_views(gaussians, CAMERA, view_at(10)[None], background, absgrad=True)
    (splats.images**2).sum().backward()
    gradients = splats.absolute_screen_gradients()
    assert gradients.shape == (30, 2)
    assert (gradients >= 0).all()
    assert torch.equal(gradients.sum(1) > 0, splats.radii[0] > 0)


@pytest.mark.parametrize("backend", ["gsplat", "reference"])
def test_a_batch_equals_its_views_one_by_one(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = {"gsplat": gsplat, "reference": reference}[backend]
    monkeypatch.setattr("gaussian_renderer.batch.select_backend", lambda name, device: adapter)
    gaussians, background = cloud(), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    views = torch.stack([view_at(d) for d in (0, 20, 40)]).requires_grad_(True)
    batch = render_batch(gaussians, CAMERA, views, background, depth=True, at_once=2)
    batch.images.square().sum().backward()
    assert batch.depths is not None
    assert views.grad is not None
    for number, view in enumerate(views.detach()):
        view.requires_grad_(True)
        image, alpha, depth, _ = reference.rasterise(
            gaussians, CAMERA, view, background, None, True, torch.zeros(30, 2).double(), 1
        )
        image.square().sum().backward()
        assert depth is not None
        assert view.grad is not None
        torch.testing.assert_close(batch.images[number], image, rtol=0, atol=1e-9)
        torch.testing.assert_close(batch.alphas[number], alpha, rtol=0, atol=1e-9)
        torch.testing.assert_close(batch.depths[number], depth / alpha.clamp_min(1e-8))
        torch.testing.assert_close(views.grad[number], view.grad)


def test_without_the_package_the_backend_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "gsplat")
    if "gsplat" in backends.available_backends("cuda"):
        pytest.skip("gsplat is installed here")
    with pytest.raises(Exception, match="it needs the package 'gsplat'"):
        backends.select_backend("gsplat", "cuda")
