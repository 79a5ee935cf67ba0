"""From a difference of images to an anomaly map and a score."""

import torch
from torch import Tensor

from .features import Features
from .filters import gaussian_blur


def anomaly_maps(
    features: Features,
    query: Tensor,  # [B, 3, H, W], 0..1
    rendering: Tensor,  # [B, 3, H, W], 0..1; values outside are clamped
    *,
    sigma: float | None = None,  # blur in pixels of the features' own map; None: theirs
    top_share: float = 0.0,  # see `image_scores`
) -> tuple[Tensor, Tensor]:
    """Anomaly maps [B, H, W] and image scores [B].

    The score is taken at the features' own resolution, as the paper does (the maximum of the
    224 x 224 map for EfficientNet-b4), the map is then brought to the size of the query.

    Raises ValueError when the images do not fit together.
    """
    _check(query, rendering)
    difference = features.difference(query.clamp(0.0, 1.0), rendering.clamp(0.0, 1.0))
    smooth = gaussian_blur(difference, features.sigma if sigma is None else sigma)
    height, width = query.shape[-2:]
    return resize_maps(smooth, height, width), image_scores(smooth, top_share)


def image_scores(
    maps: Tensor,  # [B, H, W]
    top_share: float = 0.0,
) -> Tensor:
    """One score per map, [B]: the maximum, or the mean of the `top_share` highest pixels."""
    flat = maps.flatten(start_dim=1)
    count = max(1, round(top_share * flat.shape[1]))
    if count == 1:
        return flat.amax(dim=1)
    return flat.topk(count, dim=1, sorted=False).values.double().mean(dim=1).to(maps.dtype)


def resize_maps(
    maps: Tensor,  # [B, h, w]
    height: int,
    width: int,
) -> Tensor:
    """Maps at another size, bilinear, [B, height, width]."""
    if maps.shape[-2:] == (height, width):
        return maps
    return torch.nn.functional.interpolate(
        maps[:, None], (height, width), mode="bilinear", align_corners=False
    )[:, 0]


def _check(query: Tensor, rendering: Tensor) -> None:
    if query.ndim != 4 or query.shape[1] != 3 or query.shape != rendering.shape:
        raise ValueError(
            f"query and rendering must both be [B, 3, H, W], got {list(query.shape)} and "
            f"{list(rendering.shape)}: load both at the size of the query's camera"
        )
