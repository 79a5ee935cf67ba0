"""The best place of each of many templates, by sums of responses: reference and front door.

It renders nothing; it is here because the native kernel is.
"""

import numpy as np
from numpy.typing import NDArray

from scene import InputError

from .backends import missing

PLACES_AT_ONCE = 256  # of src/kernel.h

Bytes = NDArray[np.uint8]
Starts = NDArray[np.int32]


def template_peaks(
    memory: Bytes,  # [M] responses, one map after the other
    starts: Starts,  # [T, F] where in the memory the responses to each feature begin
    valid: Bytes,  # [P] 255 where a template may lie, else 0; P is a multiple of PLACES_AT_ONCE
    threads: int = 1,
) -> tuple[Bytes, Starts]:
    """The largest sum of each template over the places, and the first place that has it: [T] each.

    The sum of template t at place p is that of memory[starts[t, f] + p] over f. It must not exceed
    255: the caller knows how large responses can be.
    Raises InputError when a template reaches out of the memory, or on shapes that do not fit.
    """
    if starts.ndim != 2 or valid.size % PLACES_AT_ONCE or not valid.size:
        raise InputError(f"templates want [T, F] starts and a multiple of {PLACES_AT_ONCE} places")
    if starts.size and (starts.min() < 0 or starts.max() + valid.size > memory.size):
        raise InputError("a template reaches out of the response maps: give them a wider margin")
    if missing("cpu"):
        return template_peaks_reference(memory, starts, valid)
    from .cpu.templates import template_peaks as native

    return native(memory, starts, valid, threads)


def template_peaks_reference(memory: Bytes, starts: Starts, valid: Bytes) -> tuple[Bytes, Starts]:
    """`template_peaks`, one template after the other."""
    best, where = np.zeros(len(starts), np.uint8), np.zeros(len(starts), np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(memory, valid.size)
    for number, own in enumerate(starts):
        sums = windows[own].sum(axis=0, dtype=np.uint8) & valid
        where[number] = sums.argmax()
        best[number] = sums[where[number]]
    return best, where
