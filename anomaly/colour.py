"""sRGB to CIELAB, where equal distances look about equally different."""

import torch
from torch import Tensor

# CIE 1931, sRGB primaries, white point D65; rows divided by the white point
_RGB_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_SRGB_KNEE = 0.04045  # below it sRGB is linear
_KNEE = (6.0 / 29.0) ** 3  # below it the cube root is continued by its tangent
_SLOPE = (29.0 / 6.0) ** 2 / 3.0


def rgb_to_lab(
    images: Tensor,  # [..., 3, H, W] sRGB, 0..1
) -> Tensor:
    """CIELAB of each pixel, [..., 3, H, W]: L in 0..100, a and b about -100..100."""
    images = images.clamp(0.0, 1.0)
    linear = images.clamp_min(_SRGB_KNEE).add_(0.055).div_(1.055).pow_(2.4)
    linear += (images - _SRGB_KNEE).clamp_max_(0.0).div_(12.92)
    matrix = torch.tensor(_RGB_TO_XYZ).to(images, non_blocking=True)
    matrix = matrix / matrix.sum(dim=1, keepdim=True)  # white becomes (1, 1, 1)
    xyz = (matrix @ linear.flatten(start_dim=-2)).reshape(images.shape)
    root = xyz.clamp_min(_KNEE).pow_(1.0 / 3.0)
    root += (xyz - _KNEE).clamp_max_(0.0).mul_(_SLOPE)
    x, y, z = root.unbind(dim=-3)
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), dim=-3)
