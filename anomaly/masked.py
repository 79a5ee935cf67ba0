"""Statistics of what a mask lets through, for stacks of images, without waiting for a GPU.

Picking the pixels out first, as in `values[mask]`, asks the device how many there are. Here the
others are told apart by their value, so that nothing has to be known on the host.
"""

import math

import torch
from torch import Tensor


def masked_mean(
    values: Tensor,  # [..., H, W]
    mask: Tensor,  # [..., H, W] bool
) -> Tensor:
    """Mean over the pixels of a mask, [...]; 0 where the mask is empty.

    Summed in double precision, so that the order, which is another on every device, hardly matters.
    """
    counts = mask.sum(dim=(-2, -1)).clamp_min(1)
    return ((values * mask).sum(dim=(-2, -1), dtype=torch.float64) / counts).to(values.dtype)


def masked_median(
    values: Tensor,  # [..., P]
    mask: Tensor,  # [..., P] bool
) -> Tensor:
    """The lower median of the entries of a mask, [...]; nan where the mask is empty."""
    return values.masked_fill(~mask, math.nan).nanmedian(dim=-1).values


def surely_none(mask: Tensor) -> bool:
    """True when no entry of a mask is set and asking costs nothing: a GPU is never asked."""
    return not mask.is_cuda and not bool(mask.any())
