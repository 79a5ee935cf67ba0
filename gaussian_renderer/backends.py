"""Which rasteriser runs. Nothing is imported before it is asked for."""

import functools
import importlib
import importlib.util
from typing import cast

import torch

from scene import InputError

from .rendering import Backend

_MODULES = {  # backend name -> (module of the adapter, package that it needs)
    "gsplat": (".gsplat", "gsplat"),
    "graphdeco": (".graphdeco", "diff_gaussian_rasterization"),
    "cpu": (".cpu", "splatpose_cpu"),
    "reference": (".reference", "torch"),
}
_ON_GPU = ("gsplat", "graphdeco", "reference")
_ON_CPU = ("cpu", "reference")


def available_backends(device: torch.device | str = "cpu") -> list[str]:
    """Names of the backends that can run on this device, best first."""
    names = _ON_GPU if torch.device(device).type == "cuda" else _ON_CPU
    return [name for name in names if importlib.util.find_spec(_MODULES[name][1]) is not None]


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
            f"backend '{name}' cannot run on {torch.device(device).type}: it needs the package "
            f"'{_MODULES[name][1]}'; usable here: {', '.join(usable)}"
        )
    return _load(name)
