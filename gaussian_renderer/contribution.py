"""What each Gaussian adds to a set of views."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scene import Camera

from .backends import select_backend
from .object_renderer import ObjectRenderer

_VIEWS_AT_ONCE = 32


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

    `camera` is the lens of all `views` [B, 4, 4] (world to camera). For backends with
    `renders_many` (see batch.py).
    """
    rasteriser: Any = select_backend(model.backend, model.gaussians.means.device)
    gaussians, like = model.gaussians.detach(), model.gaussians.means
    parts: list[Tensor] = []
    for chunk in views.to(like, non_blocking=True).split(_VIEWS_AT_ONCE):
        colours = like.new_zeros(len(chunk), len(gaussians), 1).requires_grad_(True)
        with torch.enable_grad():
            images = rasteriser.rasterise_views(
                gaussians, camera, chunk, like.new_zeros(1), colours
            ).images
            parts += torch.autograd.grad(images.sum(), colours)
    return torch.cat(parts)[..., 0]
