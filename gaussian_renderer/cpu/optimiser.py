"""Adam over several arrays in one native call, in place."""

from collections.abc import Sequence

from scene import InputError

from ..optimiser import AdamGroup
from .native import address, as_input, kernel

MAX_COLUMNS = 64  # with learning rates of their own; of adam.h


def fused_adam(
    groups: Sequence[AdamGroup],
    step: int,  # 1 for the first
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-15,
    threads: int = 1,
) -> None:
    """One step of Adam with bias correction (Kingma & Ba 2015), as `torch.optim.Adam` does it.

    Gradients beyond +-1e18, whose square float32 cannot hold, count as that.
    Raises InputError when an array is not float32 on the CPU or not contiguous, or when shapes
    differ.
    """
    native = []
    for group in groups:
        if group.gradient is None or group.values.numel() == 0:
            continue
        values = group.values.detach()
        shape = tuple(values.shape)
        gradient = as_input(group.gradient, shape, "gradient")
        for name, tensor in (("values", values), ("first", group.first), ("second", group.second)):
            if as_input(tensor, shape, name).data_ptr() != tensor.data_ptr():
                raise InputError(f"{name} is not contiguous: Adam works in place")
        rates = group.rates()
        if len(rates) > MAX_COLUMNS:
            raise InputError(f"{len(rates)} learning rates a row: at most {MAX_COLUMNS} can differ")
        rows = values.numel() // len(rates)
        # The gradient is in the tuple itself, so that a copy of it stays alive for the call.
        native.append((values, gradient, group.first, group.second, rows, rates))
    kernel().adam(
        [(*(address(t) for t in group[:4]), *group[4:]) for group in native],
        step, *betas, epsilon, max(1, threads),
    )  # fmt: skip
