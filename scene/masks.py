"""Ground-truth masks: which pixels of an image are defective, in whatever values a file says it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .decode import raw_values

_SOFT = 32  # with more different values than this, they are the shades of a blurred or soft edge
_FULL = 0.9  # share of an image beyond which a mask is doubted


def defect_share(path: Path) -> NDArray[np.float32]:
    """How much of every pixel is defect, [H, W] in 0..1.

    Two values: the higher is the defect, be it 1 or 255. Several classes: every one but the lowest.
    Shades between two values, as of a soft edge or JPEG: their place between the two.

    Raises:
        InputError: as `scene.decode.raw_values`.
    """
    values, is_lossy = raw_values(path)
    found = np.unique(values)
    lowest, highest = float(found[0]), float(found[-1])
    if lowest == highest:
        return np.full(values.shape, float(highest > 0), np.float32)
    is_class = len(found) == 2 or (not is_lossy and len(found) <= _SOFT and _has_classes(values))
    if is_class:
        return (values > lowest).astype(np.float32)
    return ((values - lowest) / (highest - lowest)).astype(np.float32)


def mask_doubt(mask: NDArray[np.bool_], is_anomalous: bool | None) -> str:
    """What is odd about the mask [H, W] of an image with this label; "" where nothing is."""
    share = float(mask.mean())
    if is_anomalous is False:
        return f"the mask of a good image marks {share:.1%} of it" if share else ""
    if share == 0.0:
        return "its mask is empty: it is left out of the figures over pixels"
    return f"its mask marks {share:.0%} of the image" if share > _FULL else ""


def _has_classes(values: NDArray) -> bool:
    """Whether a value between the extremes fills any square of 2 x 2: no mere edge does."""
    block = values[:-1, :-1]
    same = (block == values[1:, :-1]) & (block == values[:-1, 1:]) & (block == values[1:, 1:])
    return bool((same & (block > values.min()) & (block < values.max())).any())
