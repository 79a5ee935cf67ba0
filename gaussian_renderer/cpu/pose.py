"""Gauss-Newton normal equations of the pose by the native kernel."""

import torch
from torch import Tensor

from scene import Camera, Gaussians, InputError

from ..variants import Variants
from .native import address, as_input, kernel, memory, sizes_named
from .rasteriser import cloud_inputs


def pose_rows(
    gaussians: Gaussians,
    camera: Camera,
    views: Tensor,  # [K, 4, 4]
    targets: Tensor,  # [B, 3, H, W]
    background: Tensor,  # [3]
    huber: float,
    *,
    owners: Tensor,  # [K]
    variants: Variants | None = None,
    weights: Tensor | None = None,  # [B, H, W]
    threads: int = 1,
) -> Tensor:
    """See `gaussian_renderer.backend.PoseRows`; one view after the other, exact to rounding.

    Where residuals or derivatives overflow float32, they are held within 1e9 (undefined ones are
    0). Raises InputError as `rasterise` does.
    """
    if not huber > 0:
        raise InputError(f"huber is {huber}: it must be positive (inf for least squares)")
    rows = []
    for view, owner in zip(views.to(gaussians.means), owners.tolist(), strict=True):
        cloud = gaussians if variants is None else variants.gaussians_of(owner)
        given = None if weights is None else weights[owner]
        rows.append(_row(cloud, camera, view, targets[owner], background, huber, given, threads))
    return torch.tensor(rows, dtype=torch.float64)


def _row(
    gaussians: Gaussians,
    camera: Camera,
    view: Tensor,
    target: Tensor,
    background: Tensor,
    huber: float,
    weights: Tensor | None,
    threads: int,
) -> list[float]:
    """The 46 sums of one problem."""
    screen = torch.zeros(len(gaussians), 2)
    tensors = cloud_inputs(gaussians.detach(), view, background, None, screen)
    size = (camera.height, camera.width)
    target = as_input(target.detach(), (3, *size), "target")
    if weights is not None:
        weights = as_input(weights.detach(), size, "weights")
    radii = torch.empty(len(gaussians), dtype=torch.int32)
    with sizes_named(len(gaussians), camera):
        jtj, jtr, *rest = kernel().normal_equations(
            tensors.addresses(), camera.fx, camera.fy, camera.cx, camera.cy, camera.width,
            camera.height, address(tensors.view), address(target), address(weights),
            address(tensors.background), huber, address(radii), max(1, threads), memory(),
        )  # fmt: skip
    return [*jtj, *jtr, *rest]
