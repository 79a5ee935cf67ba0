"""Residuals in units of what is normal there: edges and glossy places stop glowing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .filters import gaussian_blur

SPREAD_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0)
FLOORS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # in medians of the expected residual
_FAR = 0.01  # cover below which the mean of the object takes over from what is nearby
_TAIL = 2.0  # how many standard deviations of the log-maxima a threshold stands above them


@dataclass(frozen=True)
class Standardisation:
    """Unit of the residual at a pixel: expected + spread_weight x spread + floor."""

    spread_weight: float = 1.0
    floor: float = 0.01  # in units of the residual's square root

    def unit(self, expected: Tensor, spread: Tensor) -> Tensor:
        """What a normal residual (its square root) may be at each pixel, [..., H, W]."""
        return expected + self.spread_weight * spread + self.floor

    def __call__(
        self,
        residual: Tensor,  # [..., H, W] squared difference, smoothed
        expected: Tensor,  # [..., H, W] mean square root of the residual of good views
        spread: Tensor,  # [..., H, W] uncertainty of the expectation
    ) -> Tensor:
        """Standardised residual, [..., H, W]; the square root over its unit."""
        return residual.clamp_min(0.0).sqrt() / self.unit(expected, spread)


@dataclass(frozen=True)
class HeldOut:
    """Maps of one held-out good view, to fit a `Standardisation` to."""

    residual: Tensor  # [H, W] squared difference, smoothed
    expected: Tensor  # [H, W]
    spread: Tensor  # [H, W]
    region: Tensor  # [H, W] bool, where defects are looked for most (the object and its rim)


def extend_beyond_silhouette(
    maps: Tensor,  # [..., H, W] rendered over zero: the mean over the object times its alpha
    alpha: Tensor,  # [H, W] cover of the object, 0..1
    sigma: float,  # pixels, the blur of the residual that the maps are held against
) -> Tensor:
    """What is normal at the object's edge also holds just outside of it, [..., H, W].

    A blurred residual leaks over the silhouette, where a rendered expectation is already zero:
    every edge would glow. The maps are blurred as the residual is and divided by the blurred
    alpha (normalised convolution); far from the object their mean over it takes over.
    """
    inside = alpha > 0.5
    if not inside.any():
        return maps
    typical = maps[..., inside].mean(dim=-1)[..., None, None]
    cover = gaussian_blur(alpha, sigma)
    return (gaussian_blur(maps, sigma) + _FAR * typical) / (cover + _FAR)


def fit_standardisation(views: Sequence[HeldOut]) -> Standardisation:
    """Spread weight and floor that let the smallest defects be seen, from good views alone.

    A defect at a pixel is seen when its residual exceeds threshold x unit there. The threshold
    follows from the maxima of the held-out maps (everywhere, as at a query): mean + 2 standard
    deviations of their logarithm. Minimised is the logarithm of the smallest visible residual,
    its mean over the regions: mean log unit + log threshold. The measure does not change when
    all units are multiplied, so it cannot be fooled by a large floor.

    Raises ValueError without views, or when a region is empty.
    """
    if not views or any(not view.region.any() for view in views):
        raise ValueError("standardisation needs held-out views that show the object")
    middle = float(torch.cat([view.expected[view.region] for view in views]).median())
    roots = [view.residual.clamp_min(0.0).sqrt() for view in views]
    middle = middle or float(torch.stack([root.mean() for root in roots]).mean()) or 1.0
    candidates = [
        Standardisation(weight, share * middle) for weight in SPREAD_WEIGHTS for share in FLOORS
    ]
    return min(candidates, key=lambda candidate: _smallest_visible(candidate, views, roots))


def _smallest_visible(
    candidate: Standardisation, views: Sequence[HeldOut], roots: Sequence[Tensor]
) -> float:
    """Mean logarithm of the smallest residual that would be seen."""
    maxima, units = [], []
    for view, root in zip(views, roots, strict=True):
        unit = candidate.unit(view.expected, view.spread)
        maxima.append(math.log(max(float((root / unit).max()), 1e-12)))
        units.append(float(unit[view.region].log().mean()))
    mean = sum(maxima) / len(maxima)
    variance = sum((value - mean) ** 2 for value in maxima) / max(len(maxima) - 1, 1)
    return mean + _TAIL * math.sqrt(variance) + sum(units) / len(units)
