"""How the cloud of Gaussians changes its size: adaptive density control (Kerbl et al. 2023, 5.2).

First pure functions. Each returns the new cloud and `source` [N'] long: the old row that each row
continues, or -1 for a row that is new; `carry` moves an optimiser's moments along. All results are
detached.

Then policies: when, where and by how much. One is asked after every training step:
`densify(step, gaussians, statistics)` gives None (nothing to do) or what the trainer is to apply to
parameters and moments; fresh statistics follow.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .gaussians import Gaussians, rotation_matrices

_SPLIT_SHRINK = 1.6  # children of a split are this much smaller
_OPACITY_CEILING = 0.01  # to which a reset lowers opacities


def carry(moments: Tensor, source: Tensor) -> Tensor:
    """Moments [N, ...] for the new rows, [N', ...]; zero where `source` is -1."""
    carried = moments[source.clamp(min=0)]
    carried[source < 0] = 0
    return carried


def clone(
    gaussians: Gaussians,
    index: Tensor,  # [C] long
) -> tuple[Gaussians, Tensor]:
    """Appends a copy of the chosen Gaussians; the old ones keep their moments."""
    source = torch.arange(len(gaussians), device=index.device)
    copied = gaussians.detach().map(lambda tensor: torch.cat([tensor, tensor[index]]))
    return copied, torch.cat([source, torch.full_like(index, -1)])


def split(
    gaussians: Gaussians,
    index: Tensor,  # [C] long
    generator: torch.Generator,  # on the CPU: the same draw on every device
    children: int = 2,
) -> tuple[Gaussians, Tensor]:
    """Replaces the chosen Gaussians by smaller ones drawn from them, appended at the end.

    The children's centres are samples of the parent; their scales are the parent's divided by
    0.8 `children` (1.6 for two).
    """
    gaussians = gaussians.detach()
    parents = gaussians.map(lambda tensor: tensor[index].repeat_interleave(children, dim=0))
    noise = torch.randn(parents.means.shape, generator=generator).to(parents.means)
    offsets = rotation_matrices(parents.rotations) @ (noise * parents.scales)[:, :, None]
    parents.means = parents.means + offsets[:, :, 0]
    parents.log_scales = parents.log_scales - math.log(_SPLIT_SHRINK / 2 * children)
    stays = torch.ones(len(gaussians), dtype=torch.bool, device=index.device)
    stays[index] = False
    survivors, source = prune(gaussians, ~stays)
    tensors = parents.named_tensors()
    joined = {
        name: torch.cat([old, tensors[name]]) for name, old in survivors.named_tensors().items()
    }
    return Gaussians(**joined), torch.cat([source, source.new_full((len(parents),), -1)])


def prune(
    gaussians: Gaussians,
    remove: Tensor,  # [N] bool
) -> tuple[Gaussians, Tensor]:
    """Without the marked Gaussians; the others keep their order and moments."""
    source = (~remove).nonzero()[:, 0]
    return gaussians.detach().map(lambda tensor: tensor[source]), source


def reset_opacity(
    gaussians: Gaussians, ceiling: float = _OPACITY_CEILING
) -> tuple[Gaussians, Tensor]:
    """Lowers all opacities to at most `ceiling`; rows stay, so `source` counts from 0.

    3DGS also forgets the moments of the opacities (and of nothing else) at this moment.
    """
    lowered = gaussians.detach().map(torch.clone)
    lowered.opacity_logits.clamp_(max=math.log(ceiling / (1 - ceiling)))
    return lowered, torch.arange(len(lowered), device=lowered.means.device)


def chain(first: Tensor, second: Tensor) -> Tensor:
    """The source of two steps in a row: [N1] and [N2] to [N2]."""
    return torch.where(second < 0, second, first[second.clamp(min=0)])


@dataclass
class DensifyStatistics:
    """What the training steps since the last densification say about each Gaussian."""

    score_sum: Tensor  # [N]
    count: Tensor  # [N] steps in which the Gaussian was drawn

    @classmethod
    def zeros(cls, count: int, device: torch.device | str = "cpu") -> "DensifyStatistics":
        """Nothing seen yet."""
        return cls(torch.zeros(count, device=device), torch.zeros(count, device=device))

    def update(
        self,
        screen_gradient: Tensor,  # [N, 2] dL/d(u, v), pixels
        radii: Tensor,  # [N] int32, 0 = not drawn
        width: int,
        height: int,
    ) -> None:
        """Adds one view. The score is the gradient's norm in 3DGS's normalised device coordinates,
        where the image spans [-1, 1]: the pixel gradient times half the image's width and height.
        """
        half = screen_gradient.new_tensor([0.5 * width, 0.5 * height])
        score = (screen_gradient.detach() * half).norm(dim=1)
        drawn = radii > 0
        self.score_sum += torch.where(drawn, score, 0).to(self.score_sum.dtype)
        self.count += drawn

    @property
    def score(self) -> Tensor:
        """Mean score over the views that drew the Gaussian, [N]; 0 where none did."""
        return self.score_sum / self.count.clamp(min=1)


@dataclass(frozen=True)
class Densified:
    """The new cloud; `source` is as above."""

    gaussians: Gaussians
    source: Tensor  # [N'] long
    forgets_opacity: bool = False  # the optimiser's moments of the opacities are to be zeroed


class DensifyPolicy(Protocol):
    """Decides at every step whether and how the cloud changes."""

    generator: torch.Generator  # of all its random draws

    def densify(
        self, step: int, gaussians: Gaussians, statistics: DensifyStatistics
    ) -> Densified | None:
        """`step` counts from 1. None: nothing changes."""
        ...


@dataclass
class PaperDensify:
    """The schedule of 3DGS, with its published settings.

    Its limit of 20 px on the radius on screen is left out: 3DGS clears the radii before it tests
    them, so that the limit never acts.
    """

    extent: float  # of the scene (`scene.scene_extent`), world units
    generator: torch.Generator
    white_background: bool = True
    start: int = 500
    stop: int = 15_000
    every: int = 100
    reset_every: int = 3_000
    score_threshold: float = 2e-4
    dense_share: float = 0.01  # of the extent: smaller Gaussians are cloned, larger ones split
    smallest_opacity: float = 0.005
    largest_share: float = 0.1  # of the extent: larger Gaussians go, once opacities were reset

    def densify(
        self, step: int, gaussians: Gaussians, statistics: DensifyStatistics
    ) -> Densified | None:
        """Densifies and prunes at every `every`-th step, and resets opacities on schedule."""
        if step >= self.stop:
            return None
        source = None
        if step > self.start and step % self.every == 0:
            gaussians, source = self._clone_split_prune(step, gaussians, statistics)
        resets = step % self.reset_every == 0 or (self.white_background and step == self.start)
        if resets:
            gaussians, kept = reset_opacity(gaussians)
            source = kept if source is None else source
        return None if source is None else Densified(gaussians, source, resets)

    def _clone_split_prune(
        self, step: int, gaussians: Gaussians, statistics: DensifyStatistics
    ) -> tuple[Gaussians, Tensor]:
        chosen = statistics.score >= self.score_threshold
        small = gaussians.scales.amax(1) <= self.dense_share * self.extent
        gaussians, source = _clone_and_split(gaussians, chosen, small, self.generator)
        remove = gaussians.opacities < self.smallest_opacity
        if step > self.reset_every:
            remove |= gaussians.scales.amax(1) > self.largest_share * self.extent
        gaussians, kept = prune(gaussians, remove)
        return gaussians, chain(source, kept)


@dataclass
class CappedDensify:
    """Towards a fixed number of Gaussians, the highest scores first.

    Dead Gaussians (transparent, or `is_outside`) are removed every time and their places given to
    the highest scores, so that the cloud moves to where it is needed. No opacity reset.
    """

    cap: int  # largest number of Gaussians
    extent: float  # of the scene, world units
    generator: torch.Generator
    start: int = 100
    stop: int = 2_000  # the last step that may densify
    every: int = 100
    share: float = 0.3  # at most this share of the Gaussians is densified at a time
    dense_share: float = 0.01
    smallest_opacity: float = 0.005
    is_outside: Callable[[Tensor], Tensor] | None = None  # means [N, 3] -> [N] bool

    def densify(
        self, step: int, gaussians: Gaussians, statistics: DensifyStatistics
    ) -> Densified | None:
        """Prunes, then clones or splits the best of what is left, up to the cap."""
        if not self.start <= step <= self.stop or step % self.every:
            return None
        gaussians, first = prune(gaussians, self._is_dead(gaussians))
        score = statistics.score[first]
        room = min(self.cap - len(gaussians), int(self.share * len(gaussians)))
        best = score.argsort(descending=True, stable=True)[: max(room, 0)]
        chosen = torch.zeros(len(gaussians), dtype=torch.bool, device=score.device)
        chosen[best] = score[best] > 0
        small = gaussians.scales.amax(1) <= self.dense_share * self.extent
        gaussians, second = _clone_and_split(gaussians, chosen, small, self.generator)
        return Densified(gaussians, chain(first, second))

    def _is_dead(self, gaussians: Gaussians) -> Tensor:
        dead = gaussians.opacities < self.smallest_opacity
        if self.is_outside is not None:
            dead |= self.is_outside(gaussians.means)
        return dead.detach()


def _clone_and_split(
    gaussians: Gaussians,
    chosen: Tensor,  # [N] bool
    small: Tensor,  # [N] bool: cloned when chosen; the others are split
    generator: torch.Generator,
) -> tuple[Gaussians, Tensor]:
    cloned, first = clone(gaussians, (chosen & small).nonzero()[:, 0])
    grown, second = split(cloned, (chosen & ~small).nonzero()[:, 0], generator)
    return grown, chain(first, second)
