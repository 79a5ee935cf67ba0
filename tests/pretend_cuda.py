"""A pretended GPU: CPU tensors that carry the mark "cuda", and errors where a GPU would raise them.

Inside `PretendCuda`, tensors made with device="cuda" are computed on the CPU but say that they are
on a GPU. Mixing them with CPU tensors, or handing them to numpy, raises as PyTorch does. So a
machine without a GPU finds the mistakes that would otherwise show on the first GPU run: a constant
made without `device`, a missing `.cpu()`. It says nothing about speed, nor about CUDA kernels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from many_views import one_after_the_other
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MARK = "_pretends_cuda"
_GPU = torch.device("cuda", 0)
_CROSSES_DEVICES = {"copy_", "set_", "__set__", "__delete__", "_has_compatible_shallow_copy_type"}
_NEEDS_HOST = {"numpy", "__array__", "data_ptr"}
_NO_MIXING_OF_SCALARS = {"stack", "cat", "einsum", "matmul", "__matmul__"}


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor pretends to be on the GPU."""
    return getattr(tensor, "__dict__", {}).get(_MARK, False)


def mark(value: Any, is_gpu: bool = True) -> Any:
    """Marks every tensor in `value` (also inside lists, tuples, dicts); returns `value`."""
    for tensor in tensors_in(value):
        tensor.__dict__[_MARK] = is_gpu
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in a nested structure."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def _is_gpu_name(value: Any) -> bool:
    return isinstance(value, (str, torch.device)) and torch.device(value).type == "cuda"


class PretendCuda(TorchFunctionMode):
    """While active, device="cuda" works and mixing devices raises."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return _GPU if on_gpu(args[0]) else func(*args)
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return on_gpu(args[0])
        if func == Tensor.data.__set__:  # type: ignore[attr-defined]  # how modules move
            func(*args)
            mark(args[0], on_gpu(args[1]))
            return None
        if name in ("to", "cpu", "cuda", "type_as"):
            return _move(func, name, args, kwargs)
        if name == "__iter__":
            return iter(self.__torch_function__(Tensor.unbind, types, args))
        inputs = list(tensors_in([args, kwargs]))
        _check(name, inputs, args)
        asked = kwargs.get("device")
        if asked is not None:
            kwargs["device"] = "cpu"
        result = func(*args, **kwargs)
        is_gpu = any(map(on_gpu, inputs)) if asked is None else _is_gpu_name(asked)
        return mark(result, is_gpu) if is_gpu else result


def _check(name: str, inputs: list[Tensor], args: Any) -> None:
    """Raises where PyTorch would on a GPU."""
    gpu = [t for t in inputs if on_gpu(t)]
    if not gpu or name in _CROSSES_DEVICES:
        return
    if name in _NEEDS_HOST:
        raise TypeError(f"{name}: can't convert a cuda tensor to numpy, use .cpu() first")
    if name in ("__getitem__", "__setitem__", "index_select") and on_gpu(inputs[0]):
        return  # a GPU tensor may be indexed by CPU indices
    host = [t for t in inputs if not on_gpu(t) and (t.dim() > 0 or name in _NO_MIXING_OF_SCALARS)]
    if host:
        shapes = [tuple(t.shape) for t in host]
        raise RuntimeError(f"{name}: expected all tensors on one device, cpu has {shapes}")


def _move(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """`to`, `cpu`, `cuda`, `type_as`: a copy when the device changes, as on a GPU."""
    tensor, rest = args[0], list(args[1:])
    is_gpu = {"cpu": False, "cuda": True}.get(name, on_gpu(tensor))
    if name == "cuda":
        return mark(tensor if on_gpu(tensor) else tensor.clone())
    for place, value in enumerate(rest):
        if isinstance(value, Tensor):
            is_gpu = on_gpu(value)
        elif isinstance(value, (str, torch.device)):
            is_gpu, rest[place] = _is_gpu_name(value), "cpu"
    if kwargs.get("device") is not None:
        is_gpu, kwargs["device"] = _is_gpu_name(kwargs["device"]), "cpu"
    result = func(tensor, *rest, **kwargs)
    if result is tensor and is_gpu != on_gpu(tensor):
        result = tensor.clone()
    return mark(result, is_gpu)


_WAITING = {
    "cpu", "item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__",
    "__contains__", "nonzero", "argwhere", "masked_select", "unique", "bincount", "equal",
    "allclose", "new_tensor", "matrix_exp", "inverse", "linalg_matrix_exp", "linalg_inv",
    "linalg_solve", "linalg_cholesky", "linalg_svd", "linalg_eigh", "linalg_lstsq", "linalg_det",
}  # fmt: skip


class Waits(TorchFunctionMode):
    """Names of the operations that make the host wait for the GPU.

    Copies between the devices are among them, unless the host asks not to wait (`non_blocking`,
    which is only safe on the way to the GPU), and whatever needs to know a number or a count of
    what lies on the GPU. The stand-in for the rasteriser is not looked into.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if not OnlyGpu.is_busy and _waits(name, args, kwargs):
            self.names.append(name)
        return func(*args, **kwargs)


def _waits(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call would wait for the GPU."""
    there = bool(args) and isinstance(args[0], Tensor) and on_gpu(args[0])
    if name in ("tensor", "as_tensor", "scalar_tensor"):
        return _is_gpu_name(kwargs.get("device"))
    if name in ("to", "type_as"):
        return _crosses(args, kwargs) and not (kwargs.get("non_blocking") and not there)
    if name in ("__getitem__", "__setitem__"):
        indices = args[1] if isinstance(args[1], tuple) else (args[1],)
        return there and any(map(_is_asked_for, indices))
    if name == "where" and any(map(on_gpu, tensors_in(args))):
        return not all(isinstance(value, Tensor) for value in args)  # a number is copied there
    return there and name in _WAITING


def _crosses(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether `to` takes a tensor from one device to the other."""
    for value in [*args[1:], *kwargs.values()]:
        if isinstance(value, Tensor):
            return on_gpu(value) != on_gpu(args[0])
        if isinstance(value, (str, torch.device)):
            return _is_gpu_name(value) != on_gpu(args[0])
    return False


def _is_asked_for(index: Any) -> bool:
    """Masks are counted, single numbers fetched, and lists or tensors of the host copied there."""
    if isinstance(index, Tensor):
        return index.dtype == torch.bool or index.dim() == 0 or not on_gpu(index)
    return isinstance(index, list)


class OnlyGpu:
    """`reference` in the place of a CUDA backend: refuses CPU tensors and other types."""

    is_busy = False

    def rasterise(self, gaussians, camera, view, background, colours, with_depth, screen, threads):  # type: ignore[no-untyped-def]
        from gaussian_renderer import reference

        given = [*gaussians.named_tensors().values(), view, background, screen]
        given += [] if colours is None else [colours]
        wrong = [tuple(t.shape) for t in given if not on_gpu(t) or t.dtype != torch.float32]
        if wrong:
            raise RuntimeError(f"the rasteriser got tensors that are not float32 on cuda: {wrong}")
        with torch._C.DisableTorchFunction():
            result = reference.rasterise(
                gaussians, camera, view, background, colours, with_depth, screen, threads
            )
        return mark(result)

    def rasterise_views(self, *arguments: Any, **named: Any) -> Any:
        """Many views in a call."""
        variants = named.get("variants")
        given = [*arguments, *named.values(), *(vars(variants).values() if variants else ())]
        assert all(map(on_gpu, tensors_in(given)))
        OnlyGpu.is_busy = True
        try:
            return one_after_the_other(self.rasterise)(*arguments, **named)
        finally:
            OnlyGpu.is_busy = False


@contextmanager
def pretended_gpu(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with one GPU and the backend gsplat, but no Triton, which would want a real one."""
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    patch.setattr("gaussian_renderer.losses.importlib", nothing)
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "get_device_name", lambda *a: "a pretended GPU")
    patch.setattr("gaussian_renderer.backends._load", lambda name: OnlyGpu())
    patch.setattr(
        "gaussian_renderer.backends.available_backends",
        lambda device="cpu": ["gsplat"] if torch.device(device).type == "cuda" else ["reference"],
    )
    for module in ("gaussian_renderer", "gaussian_renderer.normal_equations"):
        patch.setattr(f"{module}.available_backends", lambda device="cpu": ["gsplat"])
    with PretendCuda():
        yield
