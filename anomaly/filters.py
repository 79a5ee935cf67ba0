"""Separable filters on stacks of images, on any device: Gaussian blur and 3x3 range."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

TRUNCATE = 4.0  # a Gaussian is cut at this many sigmas, as scipy.ndimage does


@functools.lru_cache(maxsize=16)
def _kernel(sigma: float) -> tuple[float, ...]:
    """Normalised Gaussian weights, radius round(TRUNCATE sigma)."""
    radius = int(TRUNCATE * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (x / sigma) ** 2)
    return tuple((weights / weights.sum()).tolist())


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of an axis extended by `radius` on both sides: (c b a | a b c d | d c b)."""
    index = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def gaussian_blur(
    images: Tensor,  # [..., H, W]
    sigma: float,  # pixels
) -> Tensor:
    """Gaussian filter of every [H, W] plane, edges reflected: `scipy.ndimage.gaussian_filter`.

    A sigma of zero returns the images as they are.
    """
    if sigma <= 0:
        return images
    weights = _kernel(float(sigma))
    return _blur_axis(_blur_axis(images, -2, weights), -1, weights)


def _blur_axis(images: Tensor, axis: int, weights: tuple[float, ...]) -> Tensor:
    """One axis of the blur, tap by tap: on a CPU several times faster than a convolution."""
    length, radius = images.shape[axis], len(weights) // 2
    index = _mirrored(length, radius, images.device)
    extended = images.index_select(axis, index)
    result = extended.narrow(axis, radius, length) * weights[radius]
    for i in range(radius):
        result.add_(extended.narrow(axis, i, length), alpha=weights[i])
        result.add_(extended.narrow(axis, 2 * radius - i, length), alpha=weights[i])
    return result


def neighbourhood_range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value in the 3x3 neighbourhood of each pixel; twice [..., H, W]."""
    low = high = images
    for axis in (-2, -1):
        low = _extend(low, axis, torch.minimum)
        high = _extend(high, axis, torch.maximum)
    return low, high


def _extend(images: Tensor, axis: int, better: Callable[..., Tensor]) -> Tensor:
    """The better of each value and its two neighbours along one axis."""
    length = images.shape[axis]
    result = images.clone()
    inner, ahead = result.narrow(axis, 0, length - 1), images.narrow(axis, 1, length - 1)
    better(inner, ahead, out=inner)
    inner, behind = result.narrow(axis, 1, length - 1), images.narrow(axis, 0, length - 1)
    better(inner, behind, out=inner)
    return result
