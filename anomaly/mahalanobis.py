"""Residuals in units of what is normal there, direction of the colour included.

Innocent residuals have a colour of their own: gloss adds white, a shifted edge mixes two colours.
So the unit is a covariance of the three channels and the map a Mahalanobis distance: a small change
in a direction in which nothing innocent happens counts more than a large one in a usual direction.
A symmetric 3x3 matrix is kept as its 6 upper entries, rr rg rb gg gb bb.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .filters import gaussian_blur
from .masked import masked_mean
from .specular import FRAMES, Frame

NEAR_WEIGHTS = (0.0, 0.5, 1.0)
CORRECTION_WEIGHTS = (0.0, 0.5, 1.0)
FLOORS = (0.05, 0.2, 0.8)  # in units of the object's usual residual
DIAGONAL = (0, 3, 5)  # of the 6 entries
GLOSS_MARGIN = 0.2  # by which a table of reflected directions must make smaller residuals visible
_FAR = 0.01  # cover below which the mean of the object takes over from what is nearby
_TAIL = 2.0  # how many standard deviations of the log-maxima a threshold stands above them
_TINY = 1e-30  # keeps the logarithm of a map of zeros finite


@dataclass(frozen=True)
class Mahalanobis:
    """Covariance of a normal residual: that of the place, more where the memory is unsure."""

    near_weight: float = 0.5
    """Of the standard deviation among the near views."""
    correction_weight: float = 0.5
    """Of the correction itself: what is corrected by much may be so by too much."""
    floor: float = 0.001
    """Standard deviation that every pixel and channel has, in units of the residual."""
    gloss: Frame = "none"
    """In which frame the lamps stand whose mirror images raise the covariance of the place."""

    def covariance(self, common: Tensor, near: Tensor, correction: Tensor) -> Tensor:
        """Sum of its parts, in any layout of the 6 entries; without the floor."""
        return common + self.near_weight**2 * near + self.correction_weight**2 * correction

    def __call__(
        self,
        residual: Tensor,  # [..., 3, H, W] signed, smoothed
        covariance: Tensor,  # [..., 6, H, W] of residuals of good views
    ) -> Tensor:
        """Length of the residual in standard deviations, [..., H, W]."""
        squared, _ = _whiten(residual, covariance, self.floor)
        return squared.sqrt()


@dataclass(frozen=True)
class HeldOutMaps:
    """Maps of one held-out good view, to fit a `Mahalanobis` to."""

    residual: Tensor  # [3, H, W] signed, smoothed
    common: Tensor  # [F, 6, H, W] second moments in train views, with the gloss of each of `FRAMES`
    near: Tensor  # [6, H, W] covariance of what the near views expect
    correction: Tensor  # [6, H, W] outer product of the correction with itself
    region: Tensor  # [H, W] bool, where defects are looked for most (the object and its rim)


class Fit(NamedTuple):
    """A mahalanobis, and what the views that it was fitted to score without their own say."""

    mahalanobis: Mahalanobis
    scores: list[float]


def outer(
    values: Tensor,  # [..., 3, ...], the vectors along `dim`
    dim: int = 0,
) -> Tensor:
    """The 6 upper entries of each vector's outer product with itself, in the place of its 3."""
    r, g, b = values.unbind(dim)
    return torch.stack((r * r, r * g, r * b, g * g, g * b, b * b), dim=dim)


def extend_beyond_silhouette(
    maps: Tensor,  # [..., C, H, W] rendered over zero: the mean over the object times its alpha
    alpha: Tensor,  # [..., H, W] cover of the object, 0..1
    sigma: float,  # pixels, the blur of the residual that the maps are held against
) -> Tensor:
    """What is normal at the object's edge also holds just outside of it, [..., C, H, W].

    A blurred residual leaks over the silhouette, where a rendered expectation is already zero:
    every edge would glow. The maps are blurred as the residual is and divided by the blurred
    alpha (normalised convolution); far from the object their mean over it takes over.
    """
    alpha = alpha[..., None, :, :]
    typical = masked_mean(maps, alpha > 0.5)[..., None, None]
    cover = gaussian_blur(alpha, sigma)
    return (gaussian_blur(maps, sigma) + _FAR * typical) / (cover + _FAR)


def fit_mahalanobis(
    views: Iterable[HeldOutMaps],
    scale: float,  # the object's usual residual, the unit of `FLOORS`
) -> Fit:
    """Weights and floor that let the smallest defects be seen, from good views alone.

    A defect at a pixel is seen when its residual exceeds threshold x unit there. The threshold
    follows from the maxima of the held-out maps (everywhere, as at a query): mean + 2 standard
    deviations of their logarithm. Minimised is the logarithm of the smallest visible residual,
    its mean over the regions: mean log unit + log threshold. The measure does not change when
    all units are multiplied, so it cannot be fooled by a large floor. Gloss is only taken for a
    gain of a fifth: where nothing flashes, few views would choose between the tables by chance.
    Each score comes from the fit to the other views, so that scores stay those of views that
    nothing was fitted to.

    Raises ValueError without views, or when a region is empty.
    """
    candidates = [
        Mahalanobis(near, correction, floor * scale, gloss)
        for gloss, near, correction, floor in itertools.product(
            FRAMES, NEAR_WEIGHTS, CORRECTION_WEIGHTS, FLOORS
        )
    ]
    rows = [_row(view, candidates) for view in views]
    if not rows:
        raise ValueError("mahalanobis needs held-out views that show the object")
    table = torch.tensor(rows, dtype=torch.float64)  # [V, candidates, 2]
    margins = torch.tensor([GLOSS_MARGIN * (each.gloss != "none") for each in candidates])
    everyone = torch.ones(len(table), dtype=torch.bool)
    scores = []
    for view in range(len(table)):
        others = everyone.clone()
        others[view] = len(table) == 1
        scores.append(math.exp(float(table[view, _best(table[others], margins), 0])))
    return Fit(candidates[_best(table, margins)], scores)


def _row(view: HeldOutMaps, candidates: list[Mahalanobis]) -> list[tuple[float, float]]:
    """Log maximum and mean log unit of one view, for each candidate."""
    if not view.region.any():
        raise ValueError("mahalanobis needs held-out views that show the object")
    row = []
    for candidate in candidates:
        common = view.common[FRAMES.index(candidate.gloss)]
        covariance = candidate.covariance(common, view.near, view.correction)
        squared, log_determinant = _whiten(view.residual, covariance, candidate.floor)
        largest = 0.5 * math.log(max(float(squared.max()), _TINY))
        row.append((largest, float(log_determinant[view.region].mean()) / 6.0))
    return row


def _best(table: Tensor, margins: Tensor) -> int:
    """The candidate with the smallest visible residual over the views; the first of equals.

    The logarithm of that residual counts as larger by the candidate's margin.
    """
    largest, unit = table.unbind(dim=-1)
    deviation = largest.std(dim=0) if len(table) > 1 else 0.0
    visible = largest.mean(dim=0) + _TAIL * deviation + unit.mean(dim=0) + margins
    return int(visible.numpy().round(9).argmin())


def _whiten(residual: Tensor, covariance: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """r^T (covariance + floor^2 I)^-1 r and the logarithm of the determinant, both [..., H, W].

    By elimination (L D L^T). No pivot can be below floor^2, so rounding is not allowed to make one:
    where the three channels vary as one, cofactors in float32 would cancel to nothing.
    """
    rr, rg, rb, gg, gb, bb = covariance.unbind(-3)
    least = floor**2
    first = rr.clamp_min(0.0) + least
    l_g, l_b = rg / first, rb / first
    second = (gg + least - l_g * rg).clamp_min(least)
    l_gb = (gb - l_b * rg) / second
    third = (bb + least - l_b * rb - l_gb.square() * second).clamp_min(least)
    r, g, b = residual.unbind(-3)
    y = g - l_g * r
    z = b - l_b * r - l_gb * y
    squared = r.square() / first + y.square() / second + z.square() / third
    return squared, first.log() + second.log() + third.log()
