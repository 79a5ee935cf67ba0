"""How Gaussians become pixels: `render`, and nothing else to learn."""

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .backends import available_backends, select_backend
from .losses import photometric_loss
from .rendering import Rendering

__all__ = ["Rendering", "available_backends", "photometric_loss", "render", "select_backend"]


def render(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor,  # [C]
    pose: Tensor | None = None,  # [4, 4] SE(3), moves the object; the camera stays
    *,
    backend: str = "auto",
    colours: Tensor | None = None,  # [N, C] any channels, instead of the SH colours
    depth: bool = False,
    threads: int = 1,
) -> Rendering:
    """Renders the Gaussians; gradients flow to all their parameters, `colours` and `pose`.

    `pose` acts on positions and rotations of all Gaussians (SplatPose, section 3.1). Moving the
    object by `pose` and looking through the camera is looking through `world_to_camera @ pose`, so
    that is how it is computed; view-dependent colours are those of the object's own frame.
    """
    rasteriser = select_backend(backend, gaussians.means.device)
    view = camera.world_to_camera.to(gaussians.means, non_blocking=True)
    if pose is not None:
        view = view @ pose.to(gaussians.means)
    screen = torch.zeros_like(gaussians.means[:, :2])
    if torch.is_grad_enabled() and gaussians.means.requires_grad:
        screen.requires_grad_(True)
    image, alpha, depth_sum, radii = rasteriser.rasterise(
        gaussians, camera, view, background.to(gaussians.means), colours, depth, screen, threads
    )
    mean_depth = None if depth_sum is None else depth_sum / alpha.clamp_min(1e-8)
    return Rendering(image, alpha, mean_depth, screen, radii)
