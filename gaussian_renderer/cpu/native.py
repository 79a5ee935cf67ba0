"""The compiled module `splatpose_cpu`, checked once against this checkout."""

import functools
from types import ModuleType

import torch
from torch import Tensor

from scene import InputError

INTERFACE = 4  # of src/module.cpp; both are raised together


@functools.cache
def kernel() -> ModuleType:
    """The native module. Raises InputError when it is missing or was built from other sources."""
    try:
        import splatpose_cpu
    except ImportError as error:
        raise InputError(
            "the CPU kernel is not installed: run pip install . in the checkout"
        ) from error
    if getattr(splatpose_cpu, "INTERFACE", None) != INTERFACE:
        raise InputError(
            "the installed CPU kernel is from another version: run pip install . again"
        )
    return splatpose_cpu


def instruction_set() -> str:
    """Which variant of the kernel runs here: "v4" (AVX-512), "v3" (AVX2) or "generic"."""
    return str(kernel().instruction_set())


def as_input(tensor: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """The tensor in memory that the kernel can read. Raises InputError on a wrong shape or type."""
    if tensor.shape != shape:
        raise InputError(f"{name} has shape {list(tensor.shape)}, expected {list(shape)}")
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise InputError(
            f"{name} is {tensor.dtype} on {tensor.device.type}: the cpu backend needs float32 on "
            "the CPU; use backend='reference' for other types"
        )
    return tensor.contiguous()


def address(tensor: Tensor | None) -> int:
    """Where the first element lies; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()
