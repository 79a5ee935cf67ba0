"""The compiled module `splatpose_cpu`, checked once against this checkout."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from scene import Camera, InputError

INTERFACE = 6  # of src/module.cpp; both are raised together
MAX_SIDE = 1 << 20  # pixels; tiles are counted in 16 bits a side
MAX_GAUSSIANS = (1 << 31) - 1
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container on Linux


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


@functools.cache
def memory() -> int:
    """Bytes of memory that this process may use at most, of what the system tells."""
    limits = [1 << 62]
    if hasattr(os, "sysconf"):  # not on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if _CGROUP_LIMIT.is_file() and (text := _CGROUP_LIMIT.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(limits)


@contextmanager
def sizes_named(count: int, camera: Camera) -> Iterator[None]:
    """Turns sizes that the kernel cannot hold into an InputError that names them."""
    size = f"{camera.width} x {camera.height} pixels"
    if not (1 <= camera.width <= MAX_SIDE and 1 <= camera.height <= MAX_SIDE):
        raise InputError(f"the image has {size}: the cpu backend renders 1 to {MAX_SIDE} a side")
    if count > MAX_GAUSSIANS:
        raise InputError(f"{count} Gaussians: the cpu backend renders {MAX_GAUSSIANS} at most")
    if 16 * camera.width * camera.height > memory():  # colours and alpha
        raise InputError(f"the image has {size}: it does not fit into memory, render a smaller one")
    try:
        yield
    except MemoryError as error:
        raise InputError(
            f"{count} Gaussians on {size} do not fit into memory ({error}): "
            "render a smaller image, or fewer or smaller Gaussians"
        ) from error


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
