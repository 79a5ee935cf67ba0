"""A small scene, variants of it, and one measure of a backend, shared by tests of backends."""

import math

import torch
from torch import Tensor

from gaussian_renderer import Variants
from scene import Camera, Gaussians

CAMERA = Camera(torch.eye(4, dtype=torch.float64), 44.0, 40.0, 21.5, 17.0, 45, 37)
BACKGROUND = torch.tensor([0.9, 0.8, 1.0], dtype=torch.float64)


def cloud(count: int = 30, degree: int = 2) -> Gaussians:
    """Gaussians in front of the camera, float64."""
    g = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return Gaussians(
        means=0.5 * normal(count, 3),
        log_scales=-2.2 + 0.4 * normal(count, 3),
        quaternions=normal(count, 4),
        opacity_logits=normal(count),
        sh=0.3 * normal(count, (degree + 1) ** 2, 3),
    )


def view_at(degrees: float) -> Tensor:
    angle = math.radians(degrees)
    view = torch.eye(4, dtype=torch.float64)
    view[0, 0] = view[2, 2] = math.cos(angle)
    view[0, 2], view[2, 0] = math.sin(angle), -math.sin(angle)
    view[:3, 3] = torch.tensor([0.1, -0.05, 3.0])
    return view


def views_at(count: int) -> Tensor:
    """[count, 4, 4], seven degrees apart."""
    return torch.stack([view_at(7.0 * number) for number in range(count)])


def targets(count: int) -> Tensor:
    """Random images [count, 3, H, W]."""
    g = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, CAMERA.height, CAMERA.width, generator=g, dtype=torch.float64)


def variants_of(count: int) -> Variants:
    """Differently visible, opaque and coloured variants of one cloud."""
    g = torch.Generator().manual_seed(9)
    gaussians = cloud()
    visible = torch.rand(count, len(gaussians), generator=g) > 0.3
    logits = gaussians.opacity_logits + torch.randn(count, len(gaussians), generator=g).double()
    logits[0, :5] = -9.0  # less than 1/255: thinned until nothing was left
    constant = gaussians.sh[:, 0] + 0.2 * torch.randn(count, len(gaussians), 3, generator=g)
    return Variants(gaussians, visible, logits, constant)


def outputs(backend, camera, gaussians, colours, background, with_depth):  # type: ignore[no-untyped-def]
    """All outputs, and the gradients of a random projection of them."""
    leaves = gaussians.map(lambda t: t.clone().requires_grad_(True))
    view = view_at(25).requires_grad_(True)
    screen = torch.zeros(len(gaussians), 2, dtype=torch.float64, requires_grad=True)
    image, alpha, depth, radii = backend.rasterise(
        leaves, camera, view, background, colours, with_depth, screen, 1
    )
    results = [image, alpha] + ([depth] if with_depth else [])
    g = torch.Generator().manual_seed(5)
    loss = sum((r * torch.randn(r.shape, generator=g, dtype=r.dtype)).sum() for r in results)
    tensors = {**leaves.named_tensors(), "view": view, "screen": screen}
    gradients = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    return [*results, radii > 0], dict(zip(tensors, gradients, strict=True))
