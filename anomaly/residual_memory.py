"""What an innocent residual looks like at every place of the object, seen from there.

For every train view and every element (anything that carries a residual, such as a Gaussian)
the mean signed residual is kept. At a query the nearest views say which residual to expect of
each element, and how sure that is: gloss and shading that the model cannot represent, but that
the views saw, stop looking like defects.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .view_distance import view_angles

_LEVELS = 127  # of an int8


@dataclass(frozen=True)
class MemorySettings:
    """How near views speak for a query."""

    neighbours: int = 8
    """Nearest views asked."""
    reach: float = math.radians(12.0)
    """Sigma of the Gaussian weight over the angle between view and query, radians."""
    roll_weight: float = 1.0
    """1: nearness of the full rotation (right also where the light does not turn with the object).
    0: nearness of the viewing direction alone (light fixed to the object)."""
    prior: float = 0.05
    """Weight of what all views say of an element, in near views that saw it well."""


class Expectation(NamedTuple):
    """What the memory expects of each element at a query."""

    mean: Tensor  # [..., N, C] signed residual, query minus rendering
    covariance: Tensor  # [..., N, C (C + 1) / 2] of the residual around it, upper entries by row
    evidence: Tensor  # [..., N] sum of the weights of the near views that saw the element; 0: none


class ResidualMemory:
    """Residuals of N elements in V views, 4 bytes per element and view for three channels.

    Residuals are kept as signed square roots in int8: steps of 6e-5 of the limit near zero,
    about 2 % of it at the limit. Weights saturate as w / (w + half_weight) in uint8.
    Residuals and weights may be on a GPU (`to`), and what is expected is computed there; rotations
    stay on the host, which picks the nearest views without asking the device.
    """

    def __init__(
        self,
        rotations: Tensor,  # [V, 3, 3] world to camera
        residuals: Tensor,  # [V, N, C] int8
        weights: Tensor,  # [V, N] uint8
        limit: float,
    ) -> None:
        self.rotations, self.residuals, self.weights = rotations, residuals, weights
        self.limit = limit
        self._totals = self._sum_views()

    @classmethod
    def build(
        cls,
        rotations: Tensor,  # [V, 3, 3] world to camera
        views: Iterable[tuple[Tensor, Tensor]],  # V of (mean residual [N, C], weight [N] pixels)
        limit: float = 1.0,  # largest residual that is kept apart; larger ones are clamped
        half_weight: float = 1.0,  # pixels at which an element counts as half seen
    ) -> "ResidualMemory":
        """Packs views one at a time; only one of them is held unpacked.

        Raises ValueError when the number of views and rotations differ.
        """
        residuals, weights = [], []
        for residual, weight in views:
            share = (residual / limit).clamp(-1.0, 1.0)
            packed = share.sign() * share.abs().sqrt() * _LEVELS
            residuals.append(packed.round().to(torch.int8))
            seen = weight.clamp_min(0.0) / (weight.clamp_min(0.0) + half_weight)
            weights.append((seen * 255).round().to(torch.uint8))
        if len(residuals) != len(rotations) or not residuals:
            raise ValueError(
                f"{len(rotations)} rotations but {len(residuals)} views with residuals"
            )
        packed_rotations = rotations.detach().to("cpu", torch.float64)
        return cls(packed_rotations, torch.stack(residuals), torch.stack(weights), limit)

    def to(self, device: torch.device | str) -> "ResidualMemory":
        """The same memory, its residuals and weights on another device."""
        moved = copy.copy(self)
        moved.residuals, moved.weights = self.residuals.to(device), self.weights.to(device)
        total, first, second = self._totals
        moved._totals = total.to(device), first.to(device), second.to(device)
        return moved

    def joined(self, other: "ResidualMemory") -> "ResidualMemory":
        """Both memories' views of the same elements, this one's first.

        Raises ValueError when their elements or limits differ.
        """
        if self.residuals.shape[1:] != other.residuals.shape[1:] or self.limit != other.limit:
            raise ValueError("only memories of the same elements and limit can be joined")
        return ResidualMemory(
            torch.cat([self.rotations, other.rotations]),
            torch.cat([self.residuals, other.residuals]),
            torch.cat([self.weights, other.weights]),
            self.limit,
        )

    def expect(
        self,
        rotation: Tensor,  # [..., 3, 3] world to camera of the query, or of several
        settings: MemorySettings | None = None,
        exclude: int | None = None,  # a view that must not speak: leave-one-out
    ) -> Expectation:
        """What the nearest views expect; where none saw an element, what all views say of it.

        Weighted mean and covariance over the nearest views, shrunk towards the mean and variance
        of all views of the same element, and these towards zero and those of the whole object.
        Computed on the device of the residuals, which is not waited for.
        """
        settings = settings or MemorySettings()
        mean_all, variance_all = self._over_all_views(settings.prior, exclude)
        near, closeness = self._nearest(rotation, settings, exclude)
        channels, device = mean_all.shape[1], mean_all.device
        rows, columns = torch.triu_indices(channels, channels, device=device).unbind()
        total = variance_all.new_zeros(*rotation.shape[:-2], *variance_all.shape)
        first = total.new_zeros(*total.shape, channels)
        second = total.new_zeros(*total.shape, len(rows))
        for view, factor in zip(near.unbind(-1), closeness.unbind(-1), strict=True):
            residual, weight = self._unpack(view)
            weight *= factor[..., None]
            total += weight
            weighted = residual * weight[..., None]
            first += weighted
            second.addcmul_(_entries(weighted, rows), _entries(residual, columns))
        whole = (total + settings.prior)[..., None]
        mean = (first + settings.prior * mean_all) / whole
        # the sum of weight (residual - mean)(residual - mean)^T, expanded: views are read only once
        ours, theirs = _entries(mean, rows), _entries(mean, columns)
        second -= _entries(first, rows) * theirs + ours * _entries(first, columns)
        second.addcmul_(ours * theirs, total[..., None])
        variance = second.clamp_min(0.0) + settings.prior * variance_all[:, None]
        return Expectation(mean, torch.where(rows == columns, variance, second) / whole, total)

    def _nearest(
        self, rotation: Tensor, settings: MemorySettings, exclude: int | None
    ) -> tuple[Tensor, Tensor]:
        """The nearest views [..., K] and their weights [..., K], on the device of the residuals.

        Found on the host, where poses come from; a view that must not speak has no weight.
        """
        angles = view_angles(self.rotations, rotation, settings.roll_weight)
        if exclude is not None:
            angles[..., exclude] = math.inf
        near = angles.argsort(dim=-1, stable=True)[..., : settings.neighbours]
        angles = angles.gather(-1, near)
        closeness = torch.exp(-0.5 * (angles / settings.reach) ** 2)
        closeness = torch.where(angles.isfinite(), closeness, 0.0).float()
        device = self.residuals.device
        return near.to(device, non_blocking=True), closeness.to(device, non_blocking=True)

    def distance(self, rotation: Tensor, exclude: int | None = None) -> float:
        """Angle between the viewing directions of a query and the nearest view, radians.

        `rotation` [3, 3] is the query's world to camera.
        """
        angles = view_angles(self.rotations, rotation, 0.0)
        if exclude is not None:
            angles[exclude] = math.inf
        return float(angles.min())

    def arrays(self) -> dict[str, NDArray]:
        """Plain arrays for an npz file."""
        return {
            "rotations": self.rotations.numpy(),
            "residuals": self.residuals.cpu().numpy(),
            "weights": self.weights.cpu().numpy(),
            "limit": np.array(self.limit),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> "ResidualMemory":
        """What `arrays` gave. Raises ValueError when one is missing or of another shape."""
        try:
            rotations, residuals, weights, limit = (
                np.asarray(arrays[name]) for name in ("rotations", "residuals", "weights", "limit")
            )
        except KeyError as error:
            raise ValueError(f"the residual memory lacks {error}: calibrate again") from error
        fits = residuals.ndim == 3 and residuals.shape[:2] == weights.shape
        if not fits or rotations.shape != (len(residuals), 3, 3) or residuals.dtype.name != "int8":
            raise ValueError("the arrays of the residual memory do not fit: calibrate again")
        own = [torch.from_numpy(a.copy()) for a in (rotations, residuals, weights)]
        return cls(own[0].double(), own[1], own[2], float(limit))

    def _unpack(self, view: Tensor | int) -> tuple[Tensor, Tensor]:
        """Residual [..., N, C] and weight [..., N] in 0..1 of views [...]."""
        if isinstance(view, int):
            packed, weights = self.residuals[view], self.weights[view]
        else:  # not residuals[view], which asks a GPU for a single number
            packed, weights = (
                stored.index_select(0, view.reshape(-1)).reshape(*view.shape, *stored.shape[1:])
                for stored in (self.residuals, self.weights)
            )
        residual = packed.float()
        residual = residual.abs().mul_(residual).mul_(self.limit / _LEVELS**2)
        return residual, weights.float().div_(255)

    def _sum_views(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over all views of weight [N], weight x residual [N, C], weight x square [N]."""
        count, channels = self.residuals.shape[1:]
        device = self.residuals.device
        total, second = torch.zeros(count, device=device), torch.zeros(count, device=device)
        first = torch.zeros(count, channels, device=device)
        for view in range(len(self.residuals)):
            residual, weight = self._unpack(view)
            total += weight
            first.addcmul_(residual, weight[:, None])
            second.addcmul_(residual.square_().mean(dim=1), weight)
        return total, first, second

    def _over_all_views(self, prior: float, exclude: int | None) -> tuple[Tensor, Tensor]:
        """Mean [N, C] and variance [N] of each element over all views, for want of near ones."""
        total, first, second = self._totals
        if exclude is not None:
            residual, weight = self._unpack(exclude)
            total = (total - weight).clamp_min_(0.0)
            first = first - residual * weight[:, None]
            second = (second - residual.square().mean(dim=1) * weight).clamp_min_(0.0)
        whole = total + prior
        mean = first / whole[:, None]
        variance_object = second.sum() / total.sum().clamp_min(1e-12)
        square = (second + prior * variance_object) / whole
        return mean, (square - mean.square().mean(dim=1)).clamp_min_(0.0)


def _entries(values: Tensor, index: Tensor) -> Tensor:
    """Channels [..., N, E] of [..., N, C]; several times faster than indexing."""
    return values.index_select(-1, index)
