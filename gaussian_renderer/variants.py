"""One object as several pose problems want it: the same Gaussians, seen and coloured differently.

At its pose, each problem renders only the Gaussians that it shows, thinned for its resolution, in
the colours to expect there. All of that is opacities and the constant part of the colours, so many
problems can share the Gaussians, and one call of a renderer.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scene import Gaussians


@dataclass(frozen=True)
class Variants:
    """B variants of one object."""

    gaussians: Gaussians  # N of them
    visible: Tensor  # [B, N] bool: the others are not drawn
    opacity_logits: Tensor  # [B, N]
    sh_constant: Tensor | None = None  # [B, N, 3] in the place of the Gaussians' own sh[:, 0]

    def __len__(self) -> int:
        return self.visible.shape[0]

    @property
    def opacities(self) -> Tensor:
        """[B, N], 0 where not visible."""
        return self.opacity_logits.sigmoid() * self.visible

    def gaussians_of(self, number: int) -> Gaussians:
        """One variant as a cloud of its own, for backends that render one view at a time."""
        shown = replace(self.gaussians, opacity_logits=self.opacity_logits[number])
        if self.sh_constant is not None:
            constant, rest = self.sh_constant[number][:, None], self.gaussians.sh[:, 1:]
            shown = replace(shown, sh=torch.cat([constant, rest], dim=1))
        kept = self.visible[number].nonzero().squeeze(1)
        return shown.map(lambda tensor: tensor[kept])

    def extents(self) -> tuple[Tensor, Tensor]:
        """Mean position [B, 3] of what each shows, and the spread around it [B], float64."""
        means, weights = self.gaussians.means.double(), self.visible.double()
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1.0)
        middles = weights @ means
        # the sum of squares about the middle: differences first, as middles may lie far out
        origin = means.mean(dim=0)
        about = (means - origin).square().sum(dim=1)
        spread = weights @ about - (middles - origin).square().sum(dim=1)
        return middles, spread.clamp_min(0.0).sqrt()
