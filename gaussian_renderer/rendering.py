"""`render`: Gaussians to pixels, through one view or through many."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .backends import select_backend


@dataclass
class Rendering:
    """One image of the Gaussians."""

    image: Tensor  # [C, H, W]; not clamped: clamp before converting to bytes
    alpha: Tensor  # [H, W], 0 to 1
    depth: Tensor | None  # [H, W] alpha-weighted mean camera z, 0 where nothing was hit
    screen: Tensor  # [N, 2] zeros added to the projected means; .grad after backward = dL/d(u, v)
    radii: Tensor  # [N] int32, pixels; 0 for a Gaussian that was not drawn


@dataclass
class RenderingBatch:
    """B images of the same Gaussians through the same lens."""

    images: Tensor  # [B, C, H, W]; not clamped
    alphas: Tensor  # [B, H, W], 0 to 1
    depths: Tensor | None  # [B, H, W] alpha-weighted mean camera z, 0 where nothing was hit

    def leading(self, shape: Sequence[int]) -> "RenderingBatch":
        """The same images with these leading dimensions in the place of B."""
        images, alphas, depths = (
            None if part is None else part.reshape(*shape, *part.shape[1:])
            for part in (self.images, self.alphas, self.depths)
        )
        assert images is not None
        assert alphas is not None
        return RenderingBatch(images, alphas, depths)


def render(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor,  # [C]
    pose: Tensor | None = None,  # [4, 4] SE(3), moves the object; the camera stays
    *,
    backend: str = "auto",
    colours: Tensor | None = None,  # [N, C] any channels, instead of the SH colours
    depth: bool = False,
    threads: int = 1,
) -> Rendering:
    """Renders the Gaussians; gradients flow to all their parameters, `colours` and `pose`.

    `pose` acts on positions and rotations of all Gaussians (SplatPose, section 3.1). Moving the
    object by `pose` and looking through the camera is looking through `world_to_camera @ pose`, so
    that is how it is computed; view-dependent colours are those of the object's own frame.
    """
    rasteriser = select_backend(backend, gaussians.means.device)
    view = camera.world_to_camera.to(gaussians.means, non_blocking=True)
    if pose is not None:
        view = view @ pose.to(gaussians.means)
    screen = torch.zeros_like(gaussians.means[:, :2])
    if torch.is_grad_enabled() and gaussians.means.requires_grad:
        screen.requires_grad_(True)
    image, alpha, depth_sum, radii = rasteriser.rasterise(
        gaussians, camera, view, background.to(gaussians.means), colours, depth, screen, threads
    )
    mean_depth = None if depth_sum is None else depth_sum / alpha.clamp_min(1e-8)
    return Rendering(image, alpha, mean_depth, screen, radii)


def renders_many(backend: str, device: torch.device | str) -> bool:
    """Whether the backend renders many views in one call."""
    return select_backend(backend, device).rasterise_views is not None


def render_batch(
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size; its own pose is not used
    views: Tensor,  # [B, 4, 4] object to camera (world_to_camera @ pose)
    background: Tensor,  # [C]
    *,
    backend: str = "auto",
    colours: Tensor | None = None,  # [N, C], or [B, N, C], any channels instead of the SH colours
    depth: bool = False,
    threads: int = 1,
    at_once: int = 16,
) -> RenderingBatch:
    """Renders B views; gradients flow to the Gaussians, `colours` and `views`.

    Backends with `renders_many` render `at_once` views in one call (memory grows with it); the
    others render one after the other, with the same result as `render`.
    """
    rasteriser = select_backend(backend, gaussians.means.device)
    rasterise_views = rasteriser.views(threads)
    views = views.to(gaussians.means, non_blocking=True)
    background = background.to(gaussians.means)
    if rasteriser.rasterise_views is None:
        at_once = max(1, len(views))
    parts = []
    for start in range(0, len(views), at_once):
        chunk = slice(start, start + at_once)
        own = colours[chunk] if colours is not None and colours.dim() == 3 else colours
        parts.append(rasterise_views(gaussians, camera, views[chunk], background, own, depth))
    alphas = _joined([part.alphas for part in parts])
    sums = [part.depth_sums for part in parts if part.depth_sums is not None]
    depths = _joined(sums) / alphas.clamp_min(1e-8) if sums else None
    return RenderingBatch(_joined([part.images for part in parts]), alphas, depths)


def _joined(parts: list[Tensor]) -> Tensor:
    """Images of several calls; those of one call are not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
