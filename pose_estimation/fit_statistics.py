"""How well the object, rendered at a pose, fits a query; small defects hardly move the figures."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer, photometric_loss

from .multiscale import Level, render_at

FIGURES = ("median", "upper", "mismatch")
_VISIBLE = 8 / 255  # colour difference from the background that makes a query pixel part of it


class Fit(NamedTuple):
    """How well one rendering fits its query."""

    statistics: dict[str, float]  # by the names in FIGURES
    loss: float  # (1 - l) L1 + l (1 - SSIM)
    noise: float  # robust standard deviation of the residuals that are not zero


@torch.no_grad()
def measure_fit(
    model: ObjectRenderer,
    level: Level,
    poses: Tensor,  # [M, 4, 4] world_to_camera
    query: Tensor,  # [M] which image of the level each is held against
    ssim_weight: float,
) -> list[Fit]:
    """Renders the object at every pose and measures how well it fits; a GPU is waited for once."""
    images = level.images[query.to(level.images.device, non_blocking=True)]
    rendered = render_at(model, poses, level)
    block = 1 if level.shrink > 1 else 2
    statistics = fit_statistics(images, rendered, model.background, block)
    losses = [
        photometric_loss(shown, image, ssim_weight, model.backend, model.threads)
        for shown, image in zip(rendered, images, strict=True)
    ]
    sizes = (rendered - images).abs().flatten(start_dim=1)
    noise = 1.4826 * sizes.masked_fill(sizes == 0, torch.nan).nanmedian(dim=1).values
    rest = torch.stack([torch.stack(losses), noise.nan_to_num(0.0)], dim=1).double()
    rows = torch.cat([statistics, rest], dim=1).tolist()
    return [
        Fit(dict(zip(FIGURES, figures, strict=True)), loss, spread)
        for *figures, loss, spread in rows
    ]


def fit_statistics(
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
        _pooled(_differs(image, background)[..., None, :, :].to(images), block)[..., 0, :, :] > 0.5
        for image in (images, rendered)
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


def _differs(images: Tensor, background: Tensor) -> Tensor:
    """What is not of the background's colour, [..., H, W] bool."""
    return ((images - background[:, None, None]).abs() > _VISIBLE).any(dim=-3)
