"""Adam over the arrays of a cloud, one kernel each, in place. See `optimiser.adam_reference`."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ..optimiser import AdamGroup

BLOCK = 1024  # values of one program


@torch.no_grad()
def fused_adam(
    groups: Sequence[AdamGroup],
    step: int,  # 1 for the first
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-15,
    threads: int = 1,
) -> None:
    """One step of Adam with bias correction (Kingma & Ba 2015), as `torch.optim.Adam` does it.

    A row may have one rate for its first values and another for the rest; `threads` has no meaning
    here. Raises ValueError when a row has more rates, or when an array is not contiguous.
    """
    for group in groups:
        if group.gradient is None or not group.values.numel():
            continue
        values = group.values.detach()
        head, first_rate, rest_rate = _rates(group)
        if not all(t.is_contiguous() for t in (values, group.first, group.second)):
            raise ValueError("Adam works in place: its arrays must be contiguous")
        _adam[(triton.cdiv(values.numel(), BLOCK),)](
            values, group.gradient.contiguous(), group.first, group.second,
            values.numel(), values[0].numel(), head, first_rate, rest_rate,
            1.0 - betas[0], 1.0 - betas[1],
            1.0 / (1.0 - betas[0] ** step), 1.0 / (1.0 - betas[1] ** step), epsilon,
            BLOCK=BLOCK,
        )  # fmt: skip


def _rates(group: AdamGroup) -> tuple[int, float, float]:
    """How many values of a row have the first rate, that rate, and the rate of the others."""
    if isinstance(group.rate, int | float):
        return 0, 0.0, float(group.rate)
    rates = [float(rate) for rate in group.rate]
    head = next((i for i, rate in enumerate(rates) if rate != rates[0]), len(rates))
    if len(set(rates[head:])) > 1:
        raise ValueError("a row of parameters has more than two learning rates")
    return head, rates[0], rates[-1]


@triton.jit(do_not_specialize=["count", "width", "head"])
def _adam(  # type: ignore[no-untyped-def]
    values, gradient, first, second, count, width, head, first_rate, rest_rate,
    gain, square_gain, correction, square_correction, epsilon, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    slope = tl.load(gradient + at, mask=mask, other=0.0)
    mean = tl.load(first + at, mask=mask, other=0.0)
    square = tl.load(second + at, mask=mask, other=0.0)
    mean += gain * (slope - mean)
    square += square_gain * (slope * slope - square)
    rate = tl.where(at % width < head, first_rate, rest_rate)
    update = rate * mean * correction / (tl.sqrt(square * square_correction) + epsilon)
    tl.store(first + at, mean, mask=mask)
    tl.store(second + at, square, mask=mask)
    tl.store(values + at, tl.load(values + at, mask=mask, other=0.0) - update, mask=mask)
