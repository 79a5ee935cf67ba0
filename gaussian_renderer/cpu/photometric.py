"""The fused photometric loss as one node of autograd."""

from typing import Any

import torch
from torch import Tensor

from scene import InputError

from .native import MAX_SIDE, address, as_input, kernel


def photometric_gradient(
    image: Tensor,  # [C, H, W] float32
    target: Tensor,  # [C, H, W] float32
    ssim_weight: float = 0.2,
    threads: int = 1,
) -> tuple[float, Tensor]:
    """The loss and its gradient by `image` [C, H, W], without autograd.

    See `gaussian_renderer.losses.photometric_loss_reference` for the definition. Values beyond
    +-1e8, of which float32 cannot hold the fourth power, count as that.

    Raises InputError for wrong shapes, types or devices, and for an image without pixels.
    """
    if image.ndim != 3 or min(image.shape) < 1 or max(image.shape) > MAX_SIDE:
        raise InputError(
            f"image has shape {list(image.shape)}, expected [C, H, W] of 1 to {MAX_SIDE} each"
        )
    image = as_input(image.detach(), tuple(image.shape), "image")
    target = as_input(target.detach(), tuple(image.shape), "target")
    gradient = torch.empty_like(image)
    loss = kernel().photometric(
        address(image), address(target), address(gradient), *image.shape, ssim_weight,
        max(1, threads),
    )  # fmt: skip
    return loss, gradient


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, image: Tensor, target: Tensor, ssim_weight: float, threads: int
    ) -> Tensor:
        loss, gradient = photometric_gradient(image, target, ssim_weight, threads)
        ctx.save_for_backward(gradient)
        return image.new_tensor(loss)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient if cotangent.item() == 1.0 else gradient * cotangent, None, None, None


def fused_photometric_loss(
    image: Tensor,  # [C, H, W] float32
    target: Tensor,  # [C, H, W] float32
    ssim_weight: float = 0.2,
    threads: int = 1,
) -> Tensor:
    """Scalar (1 - ssim_weight) L1 + ssim_weight (1 - SSIM); gradients flow to `image` only.

    The gradient is computed together with the value, so backward costs nothing.
    """
    if target.requires_grad:
        raise InputError("the fused loss has no gradient by the target: use backend='reference'")
    loss: Tensor = _Photometric.apply(image, target, ssim_weight, threads)
    return loss
