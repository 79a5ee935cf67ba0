"""When a cloud grows, where, and by how much.

A policy is asked after every training step: `grow(step, gaussians, statistics)` gives None (nothing
to do) or the `Growth` that the trainer applies to parameters and moments; fresh statistics follow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .gaussians import Gaussians
from .growth import chain, clone, prune, reset_opacity, split


@dataclass
class GrowthStatistics:
    """What the training steps since the last growth say about each Gaussian."""

    score_sum: Tensor  # [N]
    count: Tensor  # [N] steps in which the Gaussian was drawn
    max_radii: Tensor  # [N] int32, pixels

    @classmethod
    def zeros(cls, count: int, device: torch.device | str = "cpu") -> "GrowthStatistics":
        """Nothing seen yet."""
        floats = [torch.zeros(count, device=device) for _ in range(2)]
        return cls(floats[0], floats[1], torch.zeros(count, dtype=torch.int32, device=device))

    def update(
        self,
        screen_gradient: Tensor,  # [N, 2] dL/d(u, v), pixels
        radii: Tensor,  # [N] int32, 0 = not drawn
        width: int,
        height: int,
        weight: Tensor | None = None,  # [N] multiplies the score, for example a rendered error
    ) -> None:
        """Adds one view. The score is the gradient's norm in 3DGS's normalised device coordinates,
        where the image spans [-1, 1]: the pixel gradient times half the image's width and height.
        """
        half = screen_gradient.new_tensor([0.5 * width, 0.5 * height])
        score = (screen_gradient.detach() * half).norm(dim=1)
        if weight is not None:
            score = score * weight
        drawn = radii > 0
        self.score_sum += torch.where(drawn, score, 0).to(self.score_sum.dtype)
        self.count += drawn
        self.max_radii = torch.maximum(self.max_radii, radii.to(torch.int32))

    @property
    def score(self) -> Tensor:
        """Mean score over the views that drew the Gaussian, [N]; 0 where none did."""
        return self.score_sum / self.count.clamp(min=1)


@dataclass(frozen=True)
class Growth:
    """A grown cloud; `source` is as in `scene.growth`."""

    gaussians: Gaussians
    source: Tensor  # [N'] long
    forgets_opacity: bool = False  # the optimiser's moments of the opacities are to be zeroed


class GrowthPolicy(Protocol):
    """Decides at every step whether and how the cloud changes."""

    generator: torch.Generator  # of all its random draws

    def grow(self, step: int, gaussians: Gaussians, statistics: GrowthStatistics) -> Growth | None:
        """`step` counts from 1. None: nothing changes."""
        ...


@dataclass
class PaperGrowth:
    """The schedule of 3DGS, with its published settings.

    3DGS also states a limit of 20 px on the radius on screen, but clears the radii before it tests
    them, so that the limit never acts; `largest_radius` makes it act.
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
    largest_radius: int | None = None  # pixels

    def grow(self, step: int, gaussians: Gaussians, statistics: GrowthStatistics) -> Growth | None:
        """Densifies and prunes at every `every`-th step, and resets opacities on schedule."""
        if step >= self.stop:
            return None
        source = None
        if step > self.start and step % self.every == 0:
            gaussians, source = self._densify(step, gaussians, statistics)
        resets = step % self.reset_every == 0 or (self.white_background and step == self.start)
        if resets:
            gaussians, kept = reset_opacity(gaussians)
            source = kept if source is None else source
        return None if source is None else Growth(gaussians, source, resets)

    def _densify(
        self, step: int, gaussians: Gaussians, statistics: GrowthStatistics
    ) -> tuple[Gaussians, Tensor]:
        chosen = statistics.score >= self.score_threshold
        small = gaussians.scales.amax(1) <= self.dense_share * self.extent
        after_reset = step > self.reset_every
        too_wide = torch.zeros_like(chosen)
        if self.largest_radius is not None and after_reset:
            too_wide = statistics.max_radii > self.largest_radius
        gaussians, source = _clone_and_split(gaussians, chosen, small, self.generator)
        remove = gaussians.opacities < self.smallest_opacity
        remove |= torch.where(source >= 0, too_wide[source.clamp(min=0)], False)
        if after_reset:
            remove |= gaussians.scales.amax(1) > self.largest_share * self.extent
        gaussians, kept = prune(gaussians, remove)
        return gaussians, chain(source, kept)


@dataclass
class CappedGrowth:
    """Growth towards a fixed number of Gaussians, the highest scores first.

    Dead Gaussians (transparent, or `is_outside`) are removed at every growth and their places given
    to the highest scores, so that the cloud moves to where it is needed. No opacity reset.
    """

    cap: int  # largest number of Gaussians
    extent: float  # of the scene, world units
    generator: torch.Generator
    start: int = 100
    stop: int = 2_000  # the last step that may grow
    every: int = 100
    share: float = 0.3  # at most this share of the Gaussians is densified at a time
    dense_share: float = 0.01
    smallest_opacity: float = 0.005
    is_outside: Callable[[Tensor], Tensor] | None = field(default=None)  # means [N, 3] -> [N] bool

    def grow(self, step: int, gaussians: Gaussians, statistics: GrowthStatistics) -> Growth | None:
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
        return Growth(gaussians, chain(first, second))

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
