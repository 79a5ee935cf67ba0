"""Differences that need no pre-trained weights: plain RGB, and CIELAB with a tolerance of 1 px."""

from torch import Tensor

from .colour import rgb_to_lab
from .filters import gaussian_blur, neighbourhood_range

PRE_BLUR = 0.7  # pixels; takes off sensor noise and aliasing before images are compared
LAB_UNIT = 100.0  # the lightness axis is scaled to 0..1


class RgbFeatures:
    """Squared difference of RGB, summed over channels."""

    name = "rgb"
    sigma = 2.0  # pixels, blur of the map

    def difference(self, query: Tensor, rendering: Tensor) -> Tensor:
        """Difference map [B, H, W] of images [B, 3, H, W] in 0..1."""
        return (query - rendering).square().sum(dim=1)


class ClassicalFeatures:
    """Squared CIELAB distance that forgives edges displaced by up to one pixel."""

    name = "classical"
    sigma = 2.0  # pixels, blur of the map

    def difference(self, query: Tensor, rendering: Tensor) -> Tensor:
        """Difference map [B, H, W] of images [B, 3, H, W] in 0..1."""
        return tolerant_residual(query, rendering).square().sum(dim=1)


def perceptual(images: Tensor) -> Tensor:
    """Slightly blurred CIELAB in units of 100, [..., 3, H, W], of RGB images in 0..1."""
    return rgb_to_lab(gaussian_blur(images, PRE_BLUR)) / LAB_UNIT


def tolerant_residual(query: Tensor, rendering: Tensor) -> Tensor:
    """How far the images are apart where a shift of one pixel cannot explain it, [..., 3, H, W].

    In CIELAB; see `beyond_a_shift`. Images are [..., 3, H, W] RGB in 0..1.
    """
    return beyond_a_shift(perceptual(query), perceptual(rendering))


def signed_residual(query: Tensor, rendering: Tensor) -> Tensor:
    """Tolerant residual in RGB, smoothed with its sign, [..., 3, H, W]: what is standardised.

    Gamma-encoded RGB is about perceptual already, and the covariance of its channels turns it into
    whatever basis tells good from bad. Keeping the sign lets a patch of one colour add up where
    noise cancels. Images are [..., 3, H, W] in 0..1.
    """
    ours, theirs = gaussian_blur(query, PRE_BLUR), gaussian_blur(rendering, PRE_BLUR)
    return gaussian_blur(beyond_a_shift(ours, theirs), ClassicalFeatures.sigma)


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
