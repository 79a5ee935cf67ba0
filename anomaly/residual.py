"""The difference of two images that an edge displaced by a pixel does not explain."""

from torch import Tensor

from .colour import rgb_to_lab
from .filters import gaussian_blur, neighbourhood_range

SIGMA = 2.0  # pixels, blur of residuals and maps
_PRE_BLUR = 0.7  # pixels; takes off sensor noise and aliasing before images are compared
_LAB_UNIT = 100.0  # the lightness axis is scaled to 0..1


def signed_residual(query: Tensor, rendering: Tensor) -> Tensor:
    """Tolerant residual in RGB, smoothed with its sign, [..., 3, H, W].

    Gamma-encoded RGB is about perceptual already, and the covariance of its channels turns it into
    whatever basis tells good from bad (mahalanobis.py). Keeping the sign lets a patch of one colour
    add up where noise cancels. Images are [..., 3, H, W] in 0..1.
    """
    ours, theirs = gaussian_blur(query, _PRE_BLUR), gaussian_blur(rendering, _PRE_BLUR)
    return gaussian_blur(beyond_a_shift(ours, theirs), SIGMA)


def lab_residual(query: Tensor, rendering: Tensor) -> Tensor:
    """Tolerant residual in CIELAB in units of 100, [..., 3, H, W], of RGB images in 0..1."""
    ours, theirs = (rgb_to_lab(gaussian_blur(i, _PRE_BLUR)) / _LAB_UNIT for i in (query, rendering))
    return beyond_a_shift(ours, theirs)


def beyond_a_shift(ours: Tensor, theirs: Tensor) -> Tensor:
    """Signed distance of two stacks [..., H, W] that a displaced edge does not explain.

    Each pixel is compared with the interval of values in the 3x3 neighbourhood of the other
    image, in both directions; the farther of the two counts, per channel. The sign says whether
    our values are above (+) or below (-) theirs.
    """
    there = _beyond(ours, theirs)
    back = -_beyond(theirs, ours)
    return there.where(there.abs() >= back.abs(), back)


def _beyond(values: Tensor, other: Tensor) -> Tensor:
    """Signed distance of values to the 3x3 interval of the other image, 0 inside it."""
    low, high = neighbourhood_range(other)
    return values - values.clamp(low, high)
