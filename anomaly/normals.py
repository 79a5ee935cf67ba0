"""Surface normals of the object, anchored on its Gaussians."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera

_STEP = 2  # pixels on either side between which depth is differenced
_SOLID = 0.97  # alpha from which the depth is that of the surface
_AGREEMENT = 0.7  # length of the mean of unit normals under which they do not agree
_SEEN = 2.0  # pixels, summed over the views, that make a normal worth having


@torch.no_grad()
def gaussian_normals(model: ObjectRenderer, cameras: Sequence[Camera]) -> Tensor:
    """Unit normals [N, 3] in world coordinates, zero where the views do not agree on one.

    Each view's rendered depth gives a normal per pixel; a Gaussian's is their mean over the pixels
    and views that show it (`ObjectRenderer.splat`).
    """
    means = model.gaussians.means
    total, weights = torch.zeros_like(means), torch.zeros_like(means[:, 0])
    for camera in cameras:
        mean, weight = model.splat(camera, depth_normals(model, camera))
        total += mean * weight[:, None]
        weights += weight
    length = (total / weights.clamp_min(1e-12)[:, None]).norm(dim=1)
    known = (length > _AGREEMENT) & (weights > _SEEN)
    return torch.nn.functional.normalize(total, dim=1) * known[:, None]


def depth_normals(model: ObjectRenderer, camera: Camera) -> Tensor:
    """Normals [3, H, W] in world coordinates, towards the camera; zero off the solid object."""
    shown = model(camera, depth=True)
    assert shown.depth is not None
    rows, columns = (torch.arange(size).to(shown.depth) + 0.5 for size in shown.depth.shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    ray = torch.stack(
        [(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, torch.ones_like(x)]
    )
    points = ray * shown.depth
    across = torch.linalg.cross(_difference(points, 2), _difference(points, 1), dim=0)
    normals = torch.nn.functional.normalize(across, dim=0)
    normals = torch.where((normals * ray).sum(dim=0) > 0, -normals, normals)
    normals = normals * (shown.alpha > _SOLID)
    rotation = camera.world_to_camera[:3, :3].to(normals)
    return torch.einsum("ij,ihw->jhw", rotation, normals)


def _difference(points: Tensor, axis: int) -> Tensor:
    """Central difference of a map; at its border with the opposite one, off the object."""
    return torch.roll(points, -_STEP, axis) - torch.roll(points, _STEP, axis)
