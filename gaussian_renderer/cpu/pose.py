"""Gauss-Newton normal equations of the pose by the native kernel."""

from typing import Any

import torch
from torch import Tensor

from scene import Camera, Gaussians, InputError

from .native import address, as_input, kernel
from .rasteriser import cloud_inputs


def normal_sums(
    gaussians: Gaussians,
    camera: Camera,
    view: Tensor,  # [4, 4]
    target: Tensor,  # [3, H, W]
    background: Tensor,  # [3]
    huber: float,
    weights: Tensor | None,  # [H, W]
    threads: int,
) -> tuple[Any, ...]:
    """Row-wise J^T W J, J^T W r, loss, sum of weights, inliers, pixels, all plain numbers.

    See `gaussian_renderer.normal_equations`. Raises InputError as `rasterise` does.
    """
    if not huber > 0:
        raise InputError(f"huber is {huber}: it must be positive (inf for least squares)")
    screen = torch.zeros(len(gaussians), 2)
    tensors = cloud_inputs(gaussians.detach(), view, background, None, screen)
    size = (camera.height, camera.width)
    target = as_input(target.detach(), (3, *size), "target")
    if weights is not None:
        weights = as_input(weights.detach(), size, "weights")
    radii = torch.empty(len(gaussians), dtype=torch.int32)
    return tuple(
        kernel().normal_equations(
            tensors.addresses(), camera.fx, camera.fy, camera.cx, camera.cy, camera.width,
            camera.height, address(tensors.view), address(target), address(weights),
            address(tensors.background), huber, address(radii), max(1, threads),
        )
    )  # fmt: skip
