"""sRGB and linear light (IEC 61966-2-1)."""

import numpy as np

from .shapes import Array


def to_linear(values: Array) -> Array:
    """sRGB to linear light (IEC 61966-2-1), both 0..1."""
    low = values <= 0.04045
    return np.where(low, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(values: Array) -> Array:
    """Linear light to sRGB, clipped to 0..1."""
    values = np.clip(values, 0, 1)
    low = values <= 0.0031308
    return np.where(low, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055).astype(np.float32)
