"""From the device to the host in one go: each copy of its own makes the host wait."""

from collections.abc import Sequence

import torch
from torch import Tensor


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors [B, ...] of one type on the CPU, from a GPU in one copy; those there are untouched.

    Raises ValueError when their numbers of rows or types differ.
    """
    first = tensors[0]
    if any(len(t) != len(first) or t.dtype != first.dtype for t in tensors):
        raise ValueError("only tensors of one type and with as many rows travel together")
    if not first.is_cuda:
        return list(tensors)
    rows = torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], dim=1).cpu()
    parts = rows.split([tensor[0].numel() for tensor in tensors], dim=1)
    return [part.reshape(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
