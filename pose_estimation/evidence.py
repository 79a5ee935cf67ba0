"""Numbers that tell a pose that fits from one that does not; small defects hardly move them."""

import math

import torch
from torch import Tensor

FIGURES = ("median", "upper", "mismatch")
_VISIBLE = 8 / 255  # colour difference from the background that makes a query pixel part of it


def gather_evidence(
    images: Tensor,  # [..., 3, H, W], the queries
    rendered: Tensor,  # [..., 3, H, W] at the estimated poses
    background: Tensor,  # [3]
    block: int = 2,  # pixels a side averaged first, so that edges and noise count less
) -> Tensor:
    """`FIGURES` of each pose, [..., 3] float64, each 0 for a perfect fit. No GPU is waited for.

    `median` and `upper`: 50 % and 80 % quantile of the colour difference over the pixels that
    belong to the object in either image; `mismatch`: 1 - intersection over union of the two
    silhouettes. A defect that covers less than a fifth of the object moves none of them much.
    """
    block = max(1, min(block, *images.shape[-2:]))
    difference = _pooled(rendered - images, block).abs().mean(dim=-3)
    in_query, in_rendering = (
        _pooled(_differs(picture, background)[..., None, :, :].to(images), block)[..., 0, :, :]
        > 0.5
        for picture in (images, rendered)
    )
    either = in_query | in_rendering
    values = difference.masked_fill(~either, math.nan).flatten(start_dim=-2)
    quantiles = torch.tensor([0.5, 0.8]).to(values, non_blocking=True)
    median, upper = torch.nanquantile(values, quantiles, dim=-1).double().unbind()
    both, union = (mask.sum(dim=(-2, -1)).double() for mask in (in_query & in_rendering, either))
    figures = torch.stack([median, upper, 1 - both / union], dim=-1)
    shown = in_query.any(dim=-1).any(dim=-1) & in_rendering.any(dim=-1).any(dim=-1)
    return figures.masked_fill(~shown[..., None], 1.0)


def _pooled(planes: Tensor, block: int) -> Tensor:
    """Means over blocks of planes [..., C, H, W]."""
    flat = torch.nn.functional.avg_pool2d(planes.reshape(-1, *planes.shape[-3:]), block)
    return flat.reshape(*planes.shape[:-2], *flat.shape[-2:])


def _differs(pictures: Tensor, background: Tensor) -> Tensor:
    """What is not of the background's colour, [..., H, W] bool."""
    return ((pictures - background[:, None, None]).abs() > _VISIBLE).any(dim=-3)
