"""Template matching by the native kernel."""

import numpy as np
from numpy.typing import NDArray

from .native import kernel


def template_peaks(
    memory: NDArray[np.uint8],
    starts: NDArray[np.int32],
    valid: NDArray[np.uint8],
    threads: int = 1,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """See `gaussian_renderer.template_peaks`, which has checked the sizes; the same bits."""
    memory, valid = np.ascontiguousarray(memory), np.ascontiguousarray(valid)
    starts = np.ascontiguousarray(starts)
    best, where = np.empty(len(starts), np.uint8), np.empty(len(starts), np.int32)
    kernel().template_peaks(
        memory.ctypes.data, starts.ctypes.data, valid.ctypes.data, *starts.shape, valid.size,
        best.ctypes.data, where.ctypes.data, max(1, threads),
    )  # fmt: skip
    return best, where
