"""A query at several resolutions, and the object as each of them would show it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from gaussian_renderer.reference import LOW_PASS, covariance_2d
from scene import Camera, Gaussians

_THINNING = 1.75  # exponent; chosen on held-out train views of three objects (docs/pose.md)
_LEAST_OPACITY, _MOST_OPACITY = 1e-6, 1 - 1e-6  # keep logits finite
_PAIRS_AT_ONCE = 2**21  # of a view and a Gaussian


@dataclass(frozen=True)
class Level:
    """A query image at one resolution, with the lens that fits it."""

    camera: Camera  # its pose is not used
    image: Tensor  # [3, H, W], dtype and device of the Gaussians
    shrink: int = 1  # full-resolution pixels along one side of its pixels


def level_of(camera: Camera, image: Tensor, shrink: int) -> Level:
    """`image` [3, H, W] averaged over blocks of about `shrink` pixels a side, and its lens."""
    if shrink == 1:
        return Level(camera, image)
    height, width = max(1, round(camera.height / shrink)), max(1, round(camera.width / shrink))
    small = torch.nn.functional.interpolate(image[None], size=(height, width), mode="area")[0]
    return Level(camera.resized(width, height), small.contiguous(), shrink)


def at_level(model: ObjectRenderer, level: Level, world_to_camera: Tensor) -> ObjectRenderer:
    """The object to render at `level` from about `world_to_camera` [4, 4]."""
    if level.shrink == 1:
        return model
    gaussians = model.gaussians
    logits = thinned_logits(gaussians, level.camera.at(world_to_camera), level.shrink)
    return replace(model, gaussians=replace(gaussians, opacity_logits=logits))


@torch.no_grad()
def thinned_logits(
    gaussians: Gaussians,
    camera: Camera,  # at one place, or at B places [B, 4, 4]
    shrink: int,
) -> Tensor:
    """Opacities for a camera with pixels `shrink` times as large as in training, logits [..., N].

    3DGS widens every splat by 0.3 px^2, whatever the size of the pixel. Larger pixels therefore
    make the object fatter, and the pose that fits lies farther away and turned. As in
    Mip-Splatting (Yu et al. 2024), opacities are lowered by the ratio of the areas of the splat at
    both sizes; to the power of 1.75, as splats overlap and the opacity of a stack falls more slowly
    than theirs.
    """
    pairs = camera.world_to_camera[..., 0, 0].numel() * len(gaussians)
    if camera.world_to_camera.dim() > 2 and pairs > _PAIRS_AT_ONCE:  # bounds the memory
        chunks = camera.world_to_camera.split(max(1, _PAIRS_AT_ONCE // len(gaussians)))
        return torch.cat([thinned_logits(gaussians, camera.at(c), shrink) for c in chunks])
    view = camera.world_to_camera.to(gaussians.means, non_blocking=True)
    points = gaussians.means @ view[..., :3, :3].mT + view[..., None, :3, 3]
    xx, xy, yy = covariance_2d(gaussians, camera, view[..., :3, :3], points).unbind(-1)
    # Both in the larger pixels: the low-pass filter as it was in training, and as it is here.
    fatter = LOW_PASS * (1 - 1 / shrink**2)
    before = ((xx - fatter) * (yy - fatter) - xy * xy).clamp_min(0)
    ratio = (before / (xx * yy - xy * xy)).sqrt()
    opacities = gaussians.opacities * ratio**_THINNING
    return torch.logit(opacities.clamp(_LEAST_OPACITY, _MOST_OPACITY))
