"""A query as it would look in the light of the train views."""

import torch
from torch import Tensor

from anomaly import fit_photometry
from gaussian_renderer import Rendering

_OBJECT_ALPHA = 0.5  # where the object covers at least so much of a pixel, colours are compared
_SAME = 0.03  # of the background's colour: background, which a lamp does not reach
_CLEARLY = 0.5  # of the residual must go, or it is no matter of light


@torch.no_grad()
def in_known_light(
    image: Tensor,  # [3, H, W] the query
    rendering: Rendering,  # of the object, at about the query's pose
    background: Tensor,  # [3]
) -> Tensor | None:
    """The query [3, H, W] without the gain and offset that set it off the rendering.

    What has the background's colour stays. None where light explains less than half of what
    differs: another object, or a pose that is too wrong to tell.
    """
    shown, on_object = rendering.image.clamp(0.0, 1.0), rendering.alpha > _OBJECT_ALPHA
    light = fit_photometry(image, shown, on_object)
    if not light.significant:
        return None
    before = (image - shown)[:, on_object].abs().median()
    if (image - light(shown))[:, on_object].abs().median() > _CLEARLY * before:
        return None
    offset, gains = (part.to(image)[:, None, None] for part in (light.offset, light.gains))
    restored = ((image - offset) / gains).clamp(0.0, 1.0)
    behind = (image - background.to(image)[:, None, None]).abs().amax(dim=0) < _SAME
    return torch.where(behind, image, restored)
