"""Backends that tests register: they run on the CPU and go through the same registry as any."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gaussian_renderer import BACKENDS, Registration, backends, register
from gaussian_renderer.backend import Backend


@contextmanager
def registered(name: str, load: Callable[[], Backend], checked: bool = False) -> Iterator[None]:
    """A backend for the CPU under this name, in front of the others, until the block ends."""
    before = dict(BACKENDS)
    register(name, Registration(load, "torch", ("cpu",), "pip install torch", checked=checked))
    try:
        yield
    finally:
        BACKENDS.clear()
        BACKENDS.update(before)
        backends.forget()
