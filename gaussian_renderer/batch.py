"""One object through many views at once: hypotheses, perturbed poses, batches of queries."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .backends import select_backend


@dataclass
class RenderingBatch:
    """B images of the same Gaussians through the same lens."""

    images: Tensor  # [B, C, H, W]; not clamped
    alphas: Tensor  # [B, H, W], 0 to 1
    depths: Tensor | None  # [B, H, W] alpha-weighted mean camera z, 0 where nothing was hit


def renders_many(backend: str, device: torch.device | str) -> bool:
    """Whether the backend renders many views in one call."""
    return hasattr(select_backend(backend, device), "rasterise_views")


def render_batch(
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size; its own pose is not used
    views: Tensor,  # [B, 4, 4] object to camera (world_to_camera @ pose)
    background: Tensor,  # [C]
    *,
    backend: str = "auto",
    colours: Tensor | None = None,  # [N, C] any channels, instead of the SH colours
    depth: bool = False,
    threads: int = 1,
    at_once: int = 16,
) -> RenderingBatch:
    """Renders B views; gradients flow to the Gaussians, `colours` and `views`.

    triton and gsplat render `at_once` views in one call (memory grows with it); the other backends render
    one after the other, with the same result as `render`.
    """
    rasteriser = select_backend(backend, gaussians.means.device)
    views, background = views.to(gaussians.means), background.to(gaussians.means)
    parts: list[tuple[Tensor, Tensor, Tensor | None]] = []
    rasterise_views = getattr(rasteriser, "rasterise_views", None)
    if rasterise_views is not None:
        for chunk in views.split(at_once):
            splats = rasterise_views(gaussians, camera, chunk, background, colours, depth)
            parts.append((splats.images, splats.alphas, splats.depth_sums))
    else:
        screen = torch.zeros_like(gaussians.means[:, :2])
        for view in views:
            image, alpha, depth_sum, _ = rasteriser.rasterise(
                gaussians, camera, view, background, colours, depth, screen, threads
            )
            parts.append((image[None], alpha[None], None if depth_sum is None else depth_sum[None]))
    images, alphas = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    sums = [part[2] for part in parts if part[2] is not None]
    depths = torch.cat(sums) / alphas.clamp_min(1e-8) if sums else None
    return RenderingBatch(images, alphas, depths)
