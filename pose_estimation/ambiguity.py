"""Which other poses does a query fit as well? A symmetry of the object makes them equal."""

import math

import torch
from torch import Tensor

from .candidates import Candidates, Queries
from .errors import rotation_error
from .multiscale import render_at

_APART = math.radians(5.0)  # nearer rotations are one pose
_BLOCK = 6  # pixels a side over which residuals are averaged: neighbours are not independent
_CLEAR = 4.0  # standard errors by which a pose must fit better to be the one
_LEAST_NOISE = 1 / 255  # of a block: below that, model and camera are never exact


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

    Residuals are averaged over blocks. Where the renderings differ by D and residuals are noise of
    size s, the robust cost changes by about s D from noise alone, up or down. The lesser residual
    of the two stands for s: at the right pose it is noise, also where a bolt breaks the symmetry,
    which then decides; and where a defect spoils both, it is large and nothing is decided.
    """
    block = max(1, min(_BLOCK, *image.shape[1:]))
    shown, right, wrong = (
        torch.nn.functional.avg_pool2d(each[None], block)[0].double()
        for each in (image, best, other)
    )
    first, second = (right - shown).abs(), (wrong - shown).abs()
    noise = torch.minimum(first, second).clamp_min(_LEAST_NOISE)
    deviation = (noise * (wrong - right)).square().sum().sqrt()
    gain = (_huber(second, huber) - _huber(first, huber)).sum()
    return float(gain / deviation.clamp_min(1e-12))


def _huber(size: Tensor, limit: float) -> Tensor:
    """Half the square of sizes up to a limit, and linear beyond (Huber 1964)."""
    return torch.where(size < limit, 0.5 * size**2, limit * (size - 0.5 * limit))
