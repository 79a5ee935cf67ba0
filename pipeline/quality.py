"""How well the model shows views that it was not trained on."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from scene import Camera


def psnr(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio, dB, of [3, H, W] images, inside `mask` [H, W] if given."""
    squared = (image.clamp(0.0, 1.0) - target).square()
    mse = squared.mean() if mask is None else squared[:, mask].mean()
    return -10 * math.log10(max(float(mse), 1e-12))


@torch.no_grad()
def held_out_quality(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # [3, H, W] each
    silhouettes: Sequence[Tensor] | None,  # [H, W] bool each
) -> dict[str, float | None]:
    """Mean PSNR over views: `psnr` of the whole image, `psnr_object` inside the silhouette."""
    whole, inside = [], []
    for number, (camera, image) in enumerate(zip(cameras, images, strict=True)):
        shown = model(camera).image
        whole.append(psnr(shown, image.to(shown)))
        if silhouettes is not None and silhouettes[number].any():
            inside.append(psnr(shown, image.to(shown), silhouettes[number].to(shown.device)))
    return {
        "psnr": sum(whole) / len(whole) if whole else None,
        "psnr_object": sum(inside) / len(inside) if inside else None,
    }
