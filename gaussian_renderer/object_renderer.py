"""One object and the way it is rendered; from pixels back to Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .backends import select_backend
from .rendering import Rendering, RenderingBatch, render, render_batch

_VIEWS_AT_ONCE = 32


@dataclass(frozen=True)
class ObjectRenderer:
    """A finished object model with everything that `render` wants beside the camera."""

    gaussians: Gaussians
    background: Tensor  # [3]
    backend: str = "auto"
    threads: int = 1

    def __call__(self, camera: Camera, *, depth: bool = False) -> Rendering:
        """The object in its own colours."""
        return render(
            self.gaussians, camera, self.background, depth=depth,
            backend=self.backend, threads=self.threads,
        )  # fmt: skip

    def views(
        self,
        camera: Camera,  # at one place, or at B places [B, 4, 4]
        colours: Tensor | None = None,  # [..., N, C] other channels, for each place its own
        background: Tensor | None = None,  # [C] behind them
        depth: bool = False,
    ) -> RenderingBatch:
        """The object from every place of the camera, [..., C, H, W] like its poses [..., 4, 4]."""
        leading = camera.world_to_camera.shape[:-2]
        shown = render_batch(
            self.gaussians, camera, camera.world_to_camera.reshape(-1, 4, 4),
            self.background if background is None else background,
            backend=self.backend, threads=self.threads,
            colours=None if colours is None else colours.reshape(-1, *colours.shape[-2:]),
            depth=depth,
        )  # fmt: skip
        return shown.leading(leading)

    def channels(self, camera: Camera, colours: Tensor, background: Tensor) -> Rendering:
        """The object in other channels: `colours` [N, C] before `background` [C]."""
        return render(
            self.gaussians, camera, background, colours=colours,
            backend=self.backend, threads=self.threads,
        )  # fmt: skip

    def splat(self, camera: Camera, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of `maps` [C, H, W] over the pixels that each Gaussian colours: [N, C], weight [N].

        A Gaussian's share in a pixel is its blending weight (alpha times transmittance); `weight`
        is the sum of its shares, in pixels. Rendering is linear in the colours, so its derivative
        with respect to them, taken along the maps, is the weighted sum that is wanted.
        """
        stacked = torch.cat([maps, torch.ones_like(maps[:1])])
        shape = (len(self.gaussians), len(stacked))
        colours = torch.zeros(shape, dtype=maps.dtype, device=maps.device, requires_grad=True)
        with torch.enable_grad():
            image = self.channels(camera, colours, maps.new_zeros(len(stacked))).image
            (sums,) = torch.autograd.grad(image, colours, stacked)
        weight = sums[:, -1]
        return sums[:, :-1] / weight.clamp_min(1e-12)[:, None], weight


def largest_contribution(model: ObjectRenderer, cameras: Sequence[Camera]) -> Tensor:
    """The sum of a Gaussian's blending weights over an image, largest of all cameras, [N].

    In pixels: 1 is what one opaque pixel takes. What is hidden, transparent or out of frame in
    every view has next to none, whatever its opacity.
    """
    largest = torch.zeros_like(model.gaussians.means[:, 0])
    for camera in cameras:
        _, weight = model.splat(camera, largest.new_zeros(1, camera.height, camera.width))
        largest = torch.maximum(largest, weight)
    return largest


def contributions(model: ObjectRenderer, camera: Camera, views: Tensor) -> Tensor:
    """The sum of each Gaussian's blending weights over each of B images, in pixels, [B, N].

    `camera` is the lens of all `views` [B, 4, 4] (world to camera).
    """
    gaussians, like = model.gaussians.detach(), model.gaussians.means
    rasterise_views = select_backend(model.backend, like.device).views(model.threads)
    parts: list[Tensor] = []
    for chunk in views.to(like, non_blocking=True).split(_VIEWS_AT_ONCE):
        colours = like.new_zeros(len(chunk), len(gaussians), 1).requires_grad_(True)
        with torch.enable_grad():
            images = rasterise_views(gaussians, camera, chunk, like.new_zeros(1), colours).images
            parts += torch.autograd.grad(images.sum(), colours)
    return torch.cat(parts)[..., 0]
