"""Adam over several arrays in one native call, in place."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scene import InputError

from .native import address, as_input, kernel

MAX_COLUMNS = 64  # with learning rates of their own


@dataclass
class AdamGroup:
    """One array with its moments; all are changed in place."""

    values: Tensor  # [N, ...] float32
    gradient: Tensor | None  # like values; None: the group is left alone
    first: Tensor  # like values, running mean of the gradient
    second: Tensor  # like values, running mean of its square
    rate: float | Sequence[float]  # learning rate, or one for each value of a row


def _rates(group: AdamGroup) -> tuple[float, ...]:
    if isinstance(group.rate, int | float):
        return (float(group.rate),)
    columns = group.values[0].numel() if len(group.values) else len(group.rate)
    if len(group.rate) != columns or columns > MAX_COLUMNS:
        raise InputError(
            f"{len(group.rate)} learning rates for rows of {columns} values: give one each, "
            f"at most {MAX_COLUMNS}, or a single number"
        )
    return tuple(float(rate) for rate in group.rate)


def fused_adam(
    groups: Sequence[AdamGroup],
    step: int,  # 1 for the first
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-15,
    threads: int = 1,
) -> None:
    """One step of Adam with bias correction (Kingma & Ba 2015), as `torch.optim.Adam` does it.

    Raises InputError when an array is not float32 on the CPU or not contiguous, or when shapes
    differ.
    """
    native = []
    for group in groups:
        if group.gradient is None:
            continue
        values = group.values.detach()
        shape = tuple(values.shape)
        gradient = as_input(group.gradient, shape, "gradient")
        for name, tensor in (("values", values), ("first", group.first), ("second", group.second)):
            if as_input(tensor, shape, name).data_ptr() != tensor.data_ptr():
                raise InputError(f"{name} is not contiguous: Adam works in place")
        rates = _rates(group)
        rows = values.numel() // len(rates)
        # The gradient is in the tuple itself, so that a copy of it stays alive for the call.
        native.append((values, gradient, group.first, group.second, rows, rates))
    kernel().adam(
        [(*(address(t) for t in group[:4]), *group[4:]) for group in native],
        step, *betas, epsilon, max(1, threads),
    )  # fmt: skip


def adam_reference(
    groups: Sequence[AdamGroup],
    step: int,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-15,
) -> None:
    """`fused_adam` in plain PyTorch, for any type and device: the definition."""
    for group in groups:
        if group.gradient is None:
            continue
        values = group.values.detach()
        rates = torch.tensor(_rates(group), dtype=values.dtype, device=values.device)
        group.first.lerp_(group.gradient, 1 - betas[0])
        group.second.lerp_(group.gradient.square(), 1 - betas[1])
        mean = group.first / (1 - betas[0] ** step)
        root = (group.second / (1 - betas[1] ** step)).sqrt() + epsilon
        update = (mean / root).reshape(-1, len(rates)) * rates
        values -= update.reshape(values.shape)
