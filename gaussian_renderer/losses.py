"""The photometric loss of 3DGS: (1 - l) L1 + l (1 - SSIM)."""

import functools

import torch
from torch import Tensor

from .backends import fused

WINDOW = 11
SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


@functools.cache
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normalised 1D Gaussian, [WINDOW]."""
    x = torch.arange(WINDOW, dtype=dtype, device=device) - WINDOW // 2
    weights = torch.exp(-0.5 * (x / SIGMA) ** 2)
    return weights / weights.sum()


def _blur(images: Tensor) -> Tensor:
    """Separable zero-padded Gaussian filter of [C, H, W]."""
    window = _window(images.dtype, images.device)
    rows = torch.nn.functional.conv2d(
        images[:, None], window.reshape(1, 1, 1, -1), padding=(0, WINDOW // 2)
    )
    return torch.nn.functional.conv2d(rows, window.reshape(1, 1, -1, 1), padding=(WINDOW // 2, 0))[
        :, 0
    ]


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity per pixel and channel (Wang et al. 2004) of two [C, H, W] images."""
    mean_x, mean_y, xx, yy, xy = _blur(
        torch.cat([image, target, image * image, target * target, image * target])
    ).chunk(5)
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    return ((2 * mean_x * mean_y + _C1) * (2 * cov + _C2)) / (
        (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    )


def photometric_loss_reference(
    image: Tensor, target: Tensor, ssim_weight: float = 0.2, threads: int = 1
) -> Tensor:
    """Scalar loss of [C, H, W] images in plain PyTorch: the definition; `threads` is PyTorch's."""
    l1 = (image - target).abs().mean()
    return (1 - ssim_weight) * l1 + ssim_weight * (1 - ssim_map(image, target).mean())


def photometric_loss(
    image: Tensor,  # [C, H, W]
    target: Tensor,  # [C, H, W]
    ssim_weight: float = 0.2,
    backend: str = "auto",
    threads: int = 1,
) -> Tensor:
    """Scalar (1 - ssim_weight) L1 + ssim_weight (1 - SSIM); gradients flow to `image`.

    In float32 a fused kernel is used where there is one, unless `backend` is "reference".
    """
    kernel = None if backend == "reference" else fused("photometric_loss", image)
    return (kernel or photometric_loss_reference)(image, target, ssim_weight, threads)
