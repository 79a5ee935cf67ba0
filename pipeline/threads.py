"""How many threads PyTorch gets."""

import torch

_COMPUTED_BY_TORCH = {"reference", "loftr", "xfeat", "efficientnet_b4"}


def use_threads(threads: int, *parts: str) -> None:
    """Gives PyTorch the threads if one of the `parts` (backend, matcher, features) computes in it.

    The others compute in the native kernel, which has threads of its own, and leave PyTorch only
    small operations: these do not gain from a second thread, and OpenMP's threads spin while they
    wait, which takes the processor from the kernel and from every other program.
    """
    torch.set_num_threads(threads if _COMPUTED_BY_TORCH.intersection(parts) else 1)
