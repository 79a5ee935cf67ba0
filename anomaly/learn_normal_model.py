"""Learns after training what normal looks like at every Gaussian (normality.py)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from scene import Camera

from .mahalanobis import DIAGONAL, outer
from .normal_model import Place, mirrored_directions
from .normals import gaussian_normals
from .residual_memory import ResidualMemory
from .specular import Frame, MirrorStatistics

_PRIOR_PIXELS = 4.0  # evidence with which a Gaussian's moments are drawn to the object's
_HALF_WEIGHT = 0.5  # pixels at which a view counts as having half seen a Gaussian


@torch.no_grad()
def build_memory(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # [3, H, W] each
) -> ResidualMemory:
    """The residuals of all train views at their known poses."""

    def residuals() -> Iterator[tuple[Tensor, Tensor]]:
        for camera, image in zip(cameras, images, strict=True):
            yield model.splat(camera, image - model(camera).image.clamp(0.0, 1.0))

    rotations = torch.stack([camera.world_to_camera[:3, :3] for camera in cameras])
    return ResidualMemory.build(rotations, residuals(), half_weight=_HALF_WEIGHT)


@torch.no_grad()
def learn_place(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    residuals: Sequence[Tensor],  # [3, H, W] each: signed residual of a good view
) -> Place:
    """Mean second moments of each Gaussian over the views, and how they vary with what it mirrors.

    Moments are drawn to those of the whole object where little was seen.
    """
    seen = [model.splat(c, outer(r)) for c, r in zip(cameras, residuals, strict=True)]
    total = model.gaussians.means.new_zeros(len(model.gaussians), 6)
    weights = torch.zeros_like(total[:, 0])
    for mean, weight in seen:
        total += mean * weight[:, None]
        weights += weight
    overall = total.sum(dim=0) / weights.sum().clamp_min(1e-12)
    common = (total + _PRIOR_PIXELS * overall) / (weights + _PRIOR_PIXELS)[:, None]
    normals = gaussian_normals(model, cameras)
    known = normals.abs().amax(dim=1) > 0
    usual = common[:, DIAGONAL].sum(dim=1).clamp_min(1e-12)
    tables: dict[Frame, Tensor] = {}
    for frame in ("object", "camera"):
        statistics = MirrorStatistics()
        for camera, (mean, weight) in zip(cameras, seen, strict=True):
            directions = mirrored_directions(model, normals, camera, frame)
            ratios = mean[:, DIAGONAL].sum(dim=1) / usual
            statistics.add(directions[known], ratios[known], weight[known])
        tables[frame] = statistics.table().to(common)
    return Place(common, normals, tables)
