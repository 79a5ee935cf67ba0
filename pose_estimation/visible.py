"""The Gaussians that one viewpoint shows: about two fifths, so steps near it cost half as much."""

from dataclasses import replace

from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer

from .pyramid import Level

_LEAST_WEIGHT = 0.02  # sum of blending weights over the pixels of a full-resolution image


def visible_only(model: ObjectRenderer, level: Level, world_to_camera: Tensor) -> ObjectRenderer:
    """The same object with the Gaussians that contribute to a rendering from [4, 4].

    When nothing contributes, all Gaussians are kept.
    """
    _, weights = model.splat(level.camera.at(world_to_camera), level.image[:1])
    kept = is_visible(weights, level).nonzero().squeeze(1)
    return replace(model, gaussians=model.gaussians.map(lambda tensor: tensor[kept]))


def is_visible(weights: Tensor, level: Level) -> Tensor:
    """Whether Gaussians with these sums of blending weights at a level count, [..., N] bool.

    Where none of them does, all do.
    """
    enough = weights > _LEAST_WEIGHT / level.shrink**2
    return enough | ~enough.any(dim=-1, keepdim=True)
