"""The Gaussians that one viewpoint shows: about two fifths, so steps near it cost half as much."""

import torch
from torch import Tensor

from gaussian_renderer import render

from .pyramid import Level, Renderer

_LEAST_WEIGHT = 0.02  # sum of blending weights over the pixels of a full-resolution image


def visible_only(renderer: Renderer, level: Level, world_to_camera: Tensor) -> Renderer:
    """The same renderer with the Gaussians that contribute to a rendering from [4, 4].

    Their blending weights are the gradient of the image by colours that do not matter. When nothing
    contributes, all Gaussians are kept.
    """
    gaussians = renderer.gaussians
    colours = torch.zeros(len(gaussians), 1, dtype=gaussians.means.dtype)
    colours = colours.to(gaussians.means.device).requires_grad_(True)
    image = render(
        gaussians, level.camera.at(world_to_camera), renderer.background[:1], colours=colours,
        backend=renderer.backend, threads=renderer.threads,
    ).image  # fmt: skip
    if not image.requires_grad:
        return renderer
    (weights,) = torch.autograd.grad(image.sum(), colours)
    kept = (weights[:, 0] > _LEAST_WEIGHT / level.shrink**2).nonzero().squeeze(1)
    if kept.numel() == 0:
        return renderer
    return renderer.with_gaussians(gaussians.map(lambda tensor: tensor[kept]))
