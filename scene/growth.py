"""How a cloud of Gaussians changes its size: pure functions (Kerbl et al. 2023, section 5.2).

Every function returns the new cloud and `source` [N'] long: the old row that each row continues,
or -1 for a row that is new. `carry` moves an optimiser's moments along. All results are detached.
"""

import math

import torch
from torch import Tensor

from .gaussians import Gaussians, rotation_matrices

SPLIT_SHRINK = 1.6  # children of a split are this much smaller
OPACITY_CEILING = 0.01  # to which a reset lowers opacities


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
    parents.log_scales = parents.log_scales - math.log(SPLIT_SHRINK / 2 * children)
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
    gaussians: Gaussians, ceiling: float = OPACITY_CEILING
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
