"""Several views and variants of one object in one call of gsplat, against one after the other."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_steps import Result, random_scene
from gaussian_renderer import gsplat, reference
from gaussian_renderer.variants import Variants
from scene import Camera, Gaussians

OWNERS = torch.tensor([0, 1, 0])  # the variant that each view shows


def compare_many_views() -> Result:
    """gsplat in float32 against `reference` in float64: 3 views of 2 variants of 600 Gaussians.

    Each variant hides some of the Gaussians and has opacities and colours of its own, as in
    refinement in lock step. The largest differences, and relative L2 of the gradients of what the
    variants share and of the views.
    """
    gaussians, camera, view = random_scene("cpu", count=600)
    views = torch.stack([view @ _turn(0.3 * number) for number in range(len(OWNERS))])
    found, gradients = _outputs(_at_once, gaussians, camera, views, torch.float32)
    exact, expected = _outputs(_one_by_one, gaussians, camera, views, torch.float64)
    apart = [(a - b).detach().abs() for a, b in zip(found, exact, strict=True)]
    names = ("means", "log_scales", "quaternions", "sh", "views")
    return {
        "image_max": float(apart[0].max()),
        "image_far": float((apart[0] > 1e-3).double().mean()),
        "alpha_max": float(apart[1].max()),
        "depth_max": float(apart[2].max()),
        "gradients": {
            name: float((a - b).norm() / b.norm())
            for name, a, b in zip(names, gradients, expected, strict=True)
        },
        "other_radii": "",
    }


def _turn(radians: float) -> Tensor:
    """About the object's y axis, [4, 4]."""
    generator = torch.zeros(4, 4, dtype=torch.float64)
    generator[0, 2], generator[2, 0] = radians, -radians
    return torch.linalg.matrix_exp(generator)


def _outputs(
    render: Any, gaussians: Gaussians, camera: Camera, views: Tensor, dtype: torch.dtype
) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Images, alphas and depth sums of all views; gradients of their products with random ones."""
    g = torch.Generator().manual_seed(4)
    count = len(gaussians)
    shared = gaussians.map(lambda t: t.to(dtype, copy=True).requires_grad_(True))
    poses = views.to(dtype, copy=True).requires_grad_(True)
    noise = torch.randn(2, count, 4, generator=g).to(dtype)
    variants = Variants(
        shared,
        torch.rand(2, count, generator=g) > 0.3,
        gaussians.opacity_logits.to(dtype) + 0.3 * noise[..., 3],
        gaussians.sh[:, 0].to(dtype) + 0.1 * noise[..., :3],
    )
    results = render(shared, camera, poses, torch.tensor([0.9, 0.6, 0.3], dtype=dtype), variants)
    loss = sum((r * torch.randn(r.shape, generator=g).to(dtype)).sum() for r in results)
    leaves = [shared.means, shared.log_scales, shared.quaternions, shared.sh, poses]
    return results, torch.autograd.grad(loss, leaves)


def _at_once(
    gaussians: Gaussians, camera: Camera, views: Tensor, background: Tensor, variants: Variants
) -> list[Tensor | None]:
    splats = gsplat.rasterise_views(
        gaussians, camera, views, background, with_depth=True, variants=variants, owners=OWNERS
    )
    return [splats.images, splats.alphas, splats.depth_sums]


def _one_by_one(
    gaussians: Gaussians, camera: Camera, views: Tensor, background: Tensor, variants: Variants
) -> list[Tensor]:
    rendered = []
    for view, owner in zip(views, OWNERS.tolist(), strict=True):
        cloud = variants.gaussians_of(owner)
        screen = torch.zeros_like(cloud.means[:, :2])
        rendered.append(
            reference.rasterise(cloud, camera, view, background, None, True, screen, 1)[:3]
        )
    return [torch.stack(parts) for parts in zip(*rendered, strict=True)]
