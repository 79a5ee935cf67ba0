"""One object through many views at once: hypotheses, perturbed poses, batches of queries."""

from collections.abc import Sequence
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

    def leading(self, shape: Sequence[int]) -> "RenderingBatch":
        """The same images with these leading dimensions in the place of B."""
        images, alphas, depths = (
            None if part is None else part.reshape(*shape, *part.shape[1:])
            for part in (self.images, self.alphas, self.depths)
        )
        assert images is not None
        assert alphas is not None
        return RenderingBatch(images, alphas, depths)


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
    colours: Tensor | None = None,  # [N, C], or [B, N, C], any channels instead of the SH colours
    depth: bool = False,
    threads: int = 1,
    at_once: int = 16,
) -> RenderingBatch:
    """Renders B views; gradients flow to the Gaussians, `colours` and `views`.

    Backends with `rasterise_views` render `at_once` views in one call (memory grows with it); the
    other backends render one after the other, with the same result as `render`.
    """
    rasteriser = select_backend(backend, gaussians.means.device)
    views = views.to(gaussians.means, non_blocking=True)
    background = background.to(gaussians.means)
    own = colours is not None and colours.dim() == 3  # each view in colours of its own
    parts: list[tuple[Tensor, Tensor, Tensor | None]] = []
    rasterise_views = getattr(rasteriser, "rasterise_views", None)
    if rasterise_views is not None:
        for start in range(0, len(views), at_once):
            chunk = slice(start, start + at_once)
            theirs = colours[chunk] if own and colours is not None else colours
            splats = rasterise_views(gaussians, camera, views[chunk], background, theirs, depth)
            parts.append((splats.images, splats.alphas, splats.depth_sums))
    else:
        screen = torch.zeros_like(gaussians.means[:, :2])
        for number, view in enumerate(views):
            theirs = colours[number] if own and colours is not None else colours
            image, alpha, depth_sum, _ = rasteriser.rasterise(
                gaussians, camera, view, background, theirs, depth, screen, threads
            )
            parts.append((image[None], alpha[None], None if depth_sum is None else depth_sum[None]))
    images, alphas = _joined([part[0] for part in parts]), _joined([part[1] for part in parts])
    sums = [part[2] for part in parts if part[2] is not None]
    depths = _joined(sums) / alphas.clamp_min(1e-8) if sums else None
    return RenderingBatch(images, alphas, depths)


def _joined(parts: list[Tensor]) -> Tensor:
    """Images of several calls; those of one call are not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
