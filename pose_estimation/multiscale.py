"""Queries at several resolutions, and the object as each viewpoint and resolution shows it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gaussian_renderer import (
    C0,
    LOW_PASS,
    ObjectRenderer,
    Variants,
    contributions,
    covariance_2d,
    renders_many,
    select_backend,
)
from scene import Camera, Gaussians

_THINNING = 1.75  # exponent; chosen on held-out train views of three objects (docs/pose.md)
_LEAST_OPACITY, _MOST_OPACITY = 1e-6, 1 - 1e-6  # keep logits finite
_LEAST_WEIGHT = 0.02  # sum of blending weights over the pixels of a full-resolution image
_PAIRS_AT_ONCE = 2**21  # of a view and a Gaussian; bounds the memory

# What the model cannot show: residuals, query minus rendering, that are known of each Gaussian
# from cameras with these rotations [..., 3, 3] (world to camera), as [..., N, 3] on the device of
# the Gaussians. Gloss moves over a surface while the camera moves, and splats cannot follow it;
# left alone, it pulls the pose along. Near train views tell where to expect it.
ExpectedResidual = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Level:
    """B queries through one lens at one resolution."""

    camera: Camera  # its pose is not used
    images: Tensor  # [B, 3, H, W], dtype and device of the Gaussians
    shrink: int = 1  # full-resolution pixels along one side of its pixels


def level_of(camera: Camera, images: Tensor, shrink: int) -> Level:
    """`images` [B, 3, H, W] averaged over blocks of about `shrink` pixels a side, and the lens."""
    if shrink == 1:
        return Level(camera, images)
    height, width = max(1, round(camera.height / shrink)), max(1, round(camera.width / shrink))
    small = torch.nn.functional.interpolate(images, size=(height, width), mode="area")
    return Level(camera.resized(width, height), small.contiguous(), shrink)


def seen_from(
    model: ObjectRenderer,
    pose: Tensor,  # [4, 4] world_to_camera
    level: Level,  # at which it is to be rendered from about there
    low: Level,  # at which to find out what is visible
    expected_residual: ExpectedResidual | None = None,
) -> ObjectRenderer:
    """What a viewpoint shows of the object: about two fifths, so steps near it cost half as much.

    The Gaussians that contribute to a rendering, in the colours to expect there, thinned for the
    level. When nothing contributes, all Gaussians are kept.
    """
    gaussians = model.gaussians
    if expected_residual is not None:
        constant = _expected_constants(gaussians, expected_residual, pose)
        gaussians = replace(gaussians, sh=torch.cat([constant[:, None], gaussians.sh[:, 1:]], 1))
    _, weights = model.splat(low.camera.at(pose), low.images[0, :1])
    kept = _is_visible(weights, low.shrink).nonzero().squeeze(1)
    return thinned(replace(model, gaussians=gaussians.map(lambda t: t[kept])), pose, level)


@torch.no_grad()
def seen_from_many(
    model: ObjectRenderer,
    poses: Tensor,  # [M, 4, 4]
    level: Level,
    low: Level,
    expected_residual: ExpectedResidual | None = None,
) -> Variants:
    """`seen_from` for M viewpoints, for a backend that renders many views in one call."""
    gaussians = model.gaussians
    visible = _is_visible(contributions(model, low.camera, poses), low.shrink)
    logits = gaussians.opacity_logits.expand_as(visible)
    if level.shrink > 1:
        logits = thinned_logits(gaussians, level.camera.at(poses), level.shrink)
    if expected_residual is None:
        return Variants(gaussians, visible, logits)
    chunks = poses.split(max(1, _PAIRS_AT_ONCE // len(gaussians)))
    constants = [_expected_constants(gaussians, expected_residual, chunk) for chunk in chunks]
    return Variants(gaussians, visible, logits, torch.cat(constants))


@torch.no_grad()
def render_at(model: ObjectRenderer, poses: Tensor, level: Level) -> Tensor:
    """The whole object from M poses [M, 4, 4], thinned for the level, [M, 3, H, W]."""
    if level.shrink == 1:
        return model.views(level.camera.at(poses)).images
    gaussians = model.gaussians
    if not renders_many(model.backend, gaussians.means.device):
        cameras = [level.camera.at(pose) for pose in poses]
        return torch.stack([thinned(model, c.world_to_camera, level)(c).image for c in cameras])
    logits = thinned_logits(gaussians, level.camera.at(poses), level.shrink)
    variants = Variants(gaussians, torch.ones_like(logits, dtype=torch.bool), logits)
    rasteriser: Any = select_backend(model.backend, gaussians.means.device)
    images: Tensor = rasteriser.rasterise_views(
        gaussians, level.camera, poses.to(logits, non_blocking=True), model.background,
        variants=variants, owners=torch.arange(len(poses), device=logits.device),
    ).images  # fmt: skip
    return images


def thinned(model: ObjectRenderer, pose: Tensor, level: Level) -> ObjectRenderer:
    """The object to render at a level from about `pose` [4, 4]."""
    if level.shrink == 1:
        return model
    logits = thinned_logits(model.gaussians, level.camera.at(pose), level.shrink)
    return replace(model, gaussians=replace(model.gaussians, opacity_logits=logits))


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
    if camera.world_to_camera.dim() > 2 and pairs > _PAIRS_AT_ONCE:
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


def _is_visible(weights: Tensor, shrink: int) -> Tensor:
    """Whether Gaussians with these sums of blending weights count, [..., N] bool; all if none."""
    enough = weights > _LEAST_WEIGHT / shrink**2
    return enough | ~enough.any(dim=-1, keepdim=True)


@torch.no_grad()
def _expected_constants(
    gaussians: Gaussians, expected_residual: ExpectedResidual, poses: Tensor
) -> Tensor:
    """`sh[:, 0]` of the colours to expect from about poses [..., 4, 4], [..., N, 3]."""
    return gaussians.sh[:, 0] + expected_residual(poses[..., :3, :3]) / C0
