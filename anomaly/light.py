"""Queries as they would look in the light of the train views."""

import torch
from torch import Tensor

from gaussian_renderer.batch import RenderingBatch

from .masked import masked_median
from .photometric import fit_photometry

_OBJECT_ALPHA = 0.5  # where the object covers at least so much of a pixel, colours are compared
_SAME = 0.03  # of the background's colour: background, which a lamp does not reach
_CLEARLY = 0.5  # of the residual must go, or it is no matter of light


@torch.no_grad()
def in_known_light(
    images: Tensor,  # [B, 3, H, W] the queries
    renderings: RenderingBatch,  # of the object, at about the queries' poses
    background: Tensor,  # [3]
) -> tuple[Tensor, Tensor]:
    """The queries [B, 3, H, W] without the gain and offset that set them off the renderings.

    What has the background's colour stays. Also whether light explains at least half of what
    differs, [B] bool: not so for another object, or a pose that is too wrong to tell.
    """
    shown, on_object = renderings.images.clamp(0.0, 1.0), renderings.alphas > _OBJECT_ALPHA
    light = fit_photometry(images, shown, on_object)
    before, after = (
        masked_median(difference.abs().flatten(1), on_object[:, None].expand_as(shown).flatten(1))
        for difference in (images - shown, images - light(shown))
    )
    offset, gains = (part[..., None, None] for part in (light.offset, light.gains))
    restored = ((images - offset) / gains).clamp(0.0, 1.0)
    behind = (images - background.to(images)[:, None, None]).abs().amax(dim=1, keepdim=True) < _SAME
    return torch.where(behind, images, restored), light.significant & (after <= _CLEARLY * before)
