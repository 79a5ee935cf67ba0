"""Which rasteriser runs. Nothing is imported before it is asked for."""

import functools
import importlib
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import cast

import torch

from scene import InputError

from .rendering import Backend

_MODULES = {  # backend name -> (module, package that it needs)
    "triton": (".triton", "triton"),
    "gsplat": (".gsplat", "gsplat"),
    "graphdeco": (".graphdeco", "diff_gaussian_rasterization"),
    "cpu": (".cpu", "splatpose_cpu"),
    "reference": (".reference", "torch"),
}
COMPILER = "a C compiler (gcc or clang) and Python's headers (python3-dev)"  # of Triton
_ON_GPU = ("triton", "gsplat", "graphdeco", "reference")
_ON_CPU = ("cpu", "reference")


def available_backends(device: torch.device | str = "cpu") -> list[str]:
    """Names of the backends that can run on this device, best first."""
    names = _ON_GPU if torch.device(device).type == "cuda" else _ON_CPU
    return [name for name in names if not missing(name)]


@functools.cache
def missing(name: str) -> str:
    """What the backend called `name` needs and this machine lacks; empty if nothing.

    Remembered, since looking takes as long as a small render call.
    """
    package = _MODULES[name][1]
    if importlib.util.find_spec(package) is None:
        return f"the package '{package}'"
    return "" if name != "triton" or _compiles_launchers() else COMPILER


def _compiles_launchers() -> bool:
    """Whether Triton finds what it builds the little C modules with that launch its kernels."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return bool(found) and headers.is_file()


@functools.cache
def _load(name: str) -> Backend:
    return cast(Backend, importlib.import_module(_MODULES[name][0], __package__))


def select_backend(name: str = "auto", device: torch.device | str = "cpu") -> Backend:
    """The adapter called `name`, or for "auto" the best one for the device.

    Raises InputError when the name is unknown or its package is not installed.
    """
    usable = available_backends(device)
    if name == "auto":
        return _load(usable[0])
    if name not in _MODULES:
        raise InputError(f"unknown backend '{name}': choose one of auto, {', '.join(_MODULES)}")
    if name not in usable:
        raise InputError(
            f"backend '{name}' cannot run on {torch.device(device).type}: it needs "
            f"{missing(name) or 'another device'}; usable here: {', '.join(usable)}"
        )
    return _load(name)


def choose_device(device: str = "auto", backend: str = "auto") -> tuple[torch.device, str]:
    """The device to compute on, and one line that says which backend runs there and why.

    "auto" takes the GPU when PyTorch sees one and a CUDA backend is installed. Raises InputError
    when what was asked for cannot be had.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device '{device}': choose auto, cpu or cuda")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise InputError(
            "device 'cuda' was asked for, but PyTorch sees no GPU: install a CUDA build of torch "
            "(environment.yml), or use --device cpu"
        )
    fast = [name for name in available_backends("cuda") if name != "reference"] if has_gpu else []
    on_gpu = device == "cuda" or (device == "auto" and (backend in fast or (
        backend == "auto" and bool(fast))))  # fmt: skip
    chosen = torch.device("cuda" if on_gpu else "cpu")
    name = available_backends(chosen)[0] if backend == "auto" else backend
    select_backend(backend, chosen)
    if backend != "auto" or device != "auto":
        why = "as asked for"
    elif on_gpu:
        why = f"on {torch.cuda.get_device_name()}"
    elif has_gpu:
        why = f"a GPU is there, but backend triton needs {missing('triton')}, and no other can run"
    else:
        why = "no GPU found"
    return chosen, f"backend {name} ({why})"
