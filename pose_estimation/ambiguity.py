"""Which other poses does a query fit as well? A symmetry of the object makes them equal."""

import math

import torch
from torch import Tensor

from .candidates import Candidates, Queries
from .errors import rotation_error
from .multiscale import render_at

_APART = math.radians(5.0)  # nearer rotations are one pose
_BLOCK = 6  # pixels a side over which residuals are added up: neighbours are not independent
_CLEAR = 4.0  # standard errors by which a pose must fit better to be the one
_FEWEST = 8  # blocks that must differ for a standard error to be known


def distinct(poses: Tensor, losses: Tensor, most: int) -> Tensor:
    """Where the best of poses [M, 4, 4] stand, best first, at most so many, each pose once."""
    kept: list[int] = []
    for number in losses.argsort(stable=True).tolist():
        if len(kept) < most and all(rotation_error(poses[number], poses[k]) > _APART for k in kept):
            kept.append(number)
    return torch.tensor(kept, dtype=torch.int64)


def rivals_of(settled: Candidates, best: Candidates, factor: float) -> Candidates:
    """Candidates within `factor` of the loss of their query's best, other poses, each once."""
    rivals = [settled.query[:0]]
    for place, query in enumerate(best.query.tolist()):
        near = settled.loss <= factor * best.loss[place]
        own = (near & (settled.query == query)).nonzero()[:, 0]
        poses = torch.cat([best.poses[place, None], settled.poses[own]])
        losses = torch.cat([best.loss[place, None], settled.loss[own]])
        rivals.append(own[distinct(poses, losses, len(poses))[1:] - 1])
    return settled.at(torch.cat(rivals))


def fits_as_well(queries: Queries, query: int, best: Tensor, other: Tensor) -> bool:
    """Whether pose `other` [4, 4] explains the query no worse than `best`, up to noise."""
    if rotation_error(best, other) <= _APART:
        return False
    rendered = render_at(queries.model, torch.stack([best, other]), queries.full)
    image = queries.full.images[query]
    return advantage(image, rendered[0], rendered[1], queries.settings.huber) < _CLEAR


def advantage(
    image: Tensor,  # [3, H, W], the query
    best: Tensor,  # [3, H, W] rendered at one pose
    other: Tensor,  # [3, H, W] rendered at another
    huber: float,  # residual from which on a pixel counts linearly, 0..1
) -> float:
    """By how many standard errors `best` fits better than `other`.

    Robust costs are added up over blocks. If the poses are equal, the differences between the two
    are noise around zero, of a size that their median tells. What is seen in a few blocks alone,
    like the one bolt that breaks a symmetry, moves the sum and not the median: it decides.
    """
    block = max(1, min(_BLOCK, *image.shape[1:]))
    first, second = (_cost(shown - image, huber, block) for shown in (best, other))
    differences = (second - first)[(first > 0) | (second > 0)]
    if len(differences) < _FEWEST:
        return math.inf if float(differences.sum()) > 0 else 0.0
    deviation = 1.4826 * differences.abs().median().clamp_min(1e-12)
    return float(differences.sum() / (deviation * math.sqrt(len(differences))))


def _cost(residual: Tensor, huber: float, block: int) -> Tensor:
    """Mean Huber cost of each block of a residual [3, H, W], flat."""
    size = residual.abs()
    cost = torch.where(size < huber, 0.5 * size**2, huber * (size - 0.5 * huber)).sum(0)
    return torch.nn.functional.avg_pool2d(cost[None], block).flatten().double()
