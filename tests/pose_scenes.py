"""A tiny coloured object for pose tests, small enough for the reference renderer."""

import math

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from pose_estimation.viewpoints import fibonacci_sphere, look_at
from scene import Camera, Gaussians

torch.set_num_threads(1)  # everything here is tiny: a second thread only gets in the way

WHITE = torch.ones(3)
SIZE = 64


def tiny_object(dtype: torch.dtype = torch.float32) -> Gaussians:
    """A lopsided arrangement of 60 coloured Gaussians of about unit size around the origin."""
    generator = torch.Generator().manual_seed(4)
    means = torch.randn(60, 3, generator=generator) * torch.tensor([0.36, 0.21, 0.15])
    means[:12] = torch.tensor([0.5, 0.3, 0.0]) + 0.07 * torch.randn(12, 3, generator=generator)
    return Gaussians(
        means=means,
        log_scales=torch.full((60, 3), math.log(0.09)),
        quaternions=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(60, 1),
        opacity_logits=torch.full((60,), 2.5),
        sh=1.2 * torch.randn(60, 1, 3, generator=generator),
    ).map(lambda tensor: tensor.to(dtype))


def tiny_model() -> ObjectRenderer:
    """That object, ready to be rendered on white."""
    return ObjectRenderer(tiny_object(), WHITE)


def lens(world_to_camera: Tensor | None = None, size: int = SIZE) -> Camera:
    """A camera with about 40 degrees of view."""
    pose = torch.eye(4, dtype=torch.float64) if world_to_camera is None else world_to_camera
    return Camera(pose, 1.4 * size, 1.4 * size, size / 2, size / 2, size, size)


def orbit(count: int, distance: float = 4.0) -> list[Camera]:
    """Cameras all around the object, looking at the origin."""
    origin = torch.zeros(3, dtype=torch.float64)
    return [lens(look_at(distance * d, origin)) for d in fibonacci_sphere(count)]


def picture(gaussians: Gaussians, camera: Camera) -> Tensor:
    """What the camera sees on white, [3, H, W]."""
    with torch.no_grad():
        return ObjectRenderer(gaussians, WHITE.to(gaussians.means))(camera).image.clamp(0, 1)


def visible(image: Tensor) -> Tensor:
    """Silhouette on white, [H, W] bool."""
    return ((image - 1).abs() > 8 / 255).any(dim=0)
