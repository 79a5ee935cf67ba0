"""The adapter to gsplat and batched rendering, held against `reference` through a stand-in for
gsplat's four stages that is built on the reference."""

import sys
from dataclasses import replace

import cuda_scene
import gsplat_stand_in
import pytest
import torch
from cuda_scene import cloud, outputs, view_at

from gaussian_renderer import backends, gsplat, reference
from gaussian_renderer.batch import render_batch

CAMERA = replace(cuda_scene.CAMERA, cx=22.5, cy=18.5)  # gsplat clamps otherwise off the centre


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", gsplat_stand_in.package())


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
