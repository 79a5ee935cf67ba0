"""Which rasteriser runs: the registry of backends, and what `auto` takes.

A new backend is one entry of BACKENDS, or one call of `register`; help texts, error texts and
doctor.py take the names from here. Nothing is imported before it is asked for, and a backend that
is `checked` is held against the reference before its first use on a device.
"""

import functools
import importlib
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from scene import InputError

from .backend import Backend
from .backend_check import objection

COMPILER = "a C compiler (gcc or clang) and Python's headers (python3-dev)"  # of Triton


@dataclass(frozen=True)
class Registration:
    """How a backend is found."""

    load: Callable[[], Backend]  # imports it
    package: str  # that it needs, as it is imported
    devices: tuple[str, ...]  # "cuda", "cpu"
    remedy: str = ""  # how to get what is missing
    lacks: Callable[[], str] = str  # what else it needs and this machine has not; "" if nothing
    checked: bool = True  # against the reference, before its first use on a device


def _of(module: str) -> Callable[[], Backend]:
    """Loads the BACKEND of one of our modules."""
    return lambda: importlib.import_module(module, __package__).BACKEND


def _launchers() -> str:
    """What Triton lacks to build the little C modules that launch its kernels."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return "" if found and headers.is_file() else COMPILER


BACKENDS: dict[str, Registration] = {  # best first: what others have proven before our own
    "gsplat": Registration(
        _of(".gsplat"), "gsplat", ("cuda",), "pip install gsplat==1.5.3; it needs nvcc"
    ),
    "graphdeco": Registration(
        _of(".graphdeco"), "diff_gaussian_rasterization", ("cuda",),
        'NVCC_APPEND_FLAGS="-include cstdint -include cfloat" pip install --no-build-isolation '
        "./submodules/diff-gaussian-rasterization (after git submodule update --init --recursive)",
    ),
    "triton": Registration(
        _of(".triton"), "triton", ("cuda",),
        "pip install triton (a CUDA build of PyTorch for Linux brings it), gcc and python3-dev "
        "(or conda's gxx_linux-64)", _launchers,
    ),
    "cpu": Registration(
        _of(".cpu"), "splatpose_cpu", ("cpu",), "pip install . (in this folder)", checked=False
    ),
    "reference": Registration(_of(".reference"), "torch", ("cuda", "cpu"), checked=False),
}  # fmt: skip


def register(name: str, registration: Registration) -> None:
    """Adds a backend in front of the others: `auto` prefers it where it can run."""
    others = dict(BACKENDS)
    BACKENDS.clear()
    BACKENDS.update({name: registration, **others})
    forget()


def forget() -> None:
    """Looks anew at what is registered and installed; the outcomes of checks on disk stay."""
    for cached in (missing, _load, _usable, refusal, _fused):
        cached.cache_clear()


def backend_help() -> str:
    """The choices of a `--backend` option."""
    *names, last = ["auto", *BACKENDS]
    return f"{', '.join(names)} or {last}."


def available_backends(device: torch.device | str = "cpu") -> list[str]:
    """Names of the backends that can run on this device and agree with the reference, best first.

    The first call on a GPU may take some seconds: backends are then checked, and remembered.
    """
    return list(_usable(torch.device(device).type))


def select_backend(name: str = "auto", device: torch.device | str = "cpu") -> Backend:
    """The backend called `name`, or for "auto" the best one for the device.

    Raises InputError when the name is unknown, when its package is not installed, or when it does
    not agree with the reference.
    """
    kind = torch.device(device).type
    if name == "auto":
        return _load(_usable(kind)[0])
    if name not in BACKENDS:
        raise InputError(f"unknown backend '{name}': choose one of auto, {', '.join(BACKENDS)}")
    if why := refusal(name, kind):
        raise InputError(
            f"backend '{name}' cannot run on {kind}: {why}; usable here: {', '.join(_usable(kind))}"
        )
    return _load(name)


def fused(ability: Literal["photometric_loss", "adam"], like: Tensor) -> Any:
    """The fastest of these functions for a tensor's device, None where there is none for its type.

    It need not come from the backend that renders: it only wants arrays of that device.
    """
    return _fused(ability, like.device.type) if like.dtype == torch.float32 else None


def choose_device(device: str = "auto", backend: str = "auto") -> tuple[torch.device, str]:
    """The device to compute on, and one line that says which backend runs there and why.

    "auto" takes the GPU when PyTorch sees one and a backend for it can run. Raises InputError
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
    chosen = device if device != "auto" else "cuda" if has_gpu and _wants_gpu(backend) else "cpu"
    name = select_backend(backend, chosen).name
    notes = ["as asked for"]
    if backend == "auto":
        notes = [] if device != "auto" else ["no GPU found"]
        if chosen == "cuda":
            notes = [f"on {torch.cuda.get_device_name()}", *passed_over()]
        elif device == "auto" and has_gpu:
            notes = ["a GPU is there, but no backend for it can run", *passed_over()]
        notes = notes or ["as asked for"]
    return torch.device(chosen), f"backend {name} ({'; '.join(notes)})"


def passed_over() -> list[str]:
    """One sentence for each GPU backend that is installed and not used: its name, and why.

    Where none is installed, what each of them would need.
    """
    names = [name for name, entry in BACKENDS.items() if "cuda" in entry.devices]
    found = [name for name in names if not missing(name) and name != "reference"]
    return [
        f"{name} is passed over: {why}" for name in found or names if (why := refusal(name, "cuda"))
    ]


@functools.cache
def missing(name: str) -> str:
    """What the backend called `name` needs and this machine lacks; empty if nothing.

    Remembered, since looking takes as long as a small render call.
    """
    entry = BACKENDS[name]
    if importlib.util.find_spec(entry.package) is None:
        return f"the package '{entry.package}'"
    return entry.lacks()


def _wants_gpu(backend: str) -> bool:
    """Whether a run on no particular device goes to the GPU: not for the sake of `reference`."""
    if backend == "auto":
        return _usable("cuda")[0] != "reference"
    return backend in BACKENDS and BACKENDS[backend].devices == ("cuda",)


@functools.cache
def _usable(device: str) -> tuple[str, ...]:
    return tuple(name for name in BACKENDS if not refusal(name, device))


@functools.cache
def refusal(name: str, device: str) -> str:
    """Why a backend cannot run on this kind of device; empty if it can. Remembered."""
    entry = BACKENDS[name]
    if lacking := missing(name):
        return f"it needs {lacking}"
    if device not in entry.devices:
        return f"it runs on {' and '.join(entry.devices)} only"
    if device == "cuda" and not torch.cuda.is_available():
        return "PyTorch sees no GPU"
    return objection(name, entry.package, lambda: _load(name), device) if entry.checked else ""


@functools.cache
def _load(name: str) -> Backend:
    return BACKENDS[name].load()


@functools.cache
def _fused(ability: str, device: str) -> Any:
    functions = (getattr(_load(name), ability) for name in _usable(device))
    return next((function for function in functions if function is not None), None)
