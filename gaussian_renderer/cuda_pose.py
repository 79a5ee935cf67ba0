"""How every pixel changes with the pose, by central differences over one batch of renders.

Works with every backend; with gsplat the 13 renders are one call. Perturbations turn the object
about its own centre and shift it, each by about a quarter of a pixel: small against the low-pass
filter of 0.55 px that every splat carries, but large enough to average over the cut at
alpha = 1/255, whose jumps are what limits the accuracy (about 5 % of a column; without the cut
1 %). The result is expressed as derivatives with respect to a twist in the camera's frame.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .batch import render_batch

STEP = 0.25  # pixels that the object's rim or centre moves in one perturbation


@dataclass
class PixelJacobian:
    """A rendering and its derivatives with respect to the twist of a left perturbation."""

    image: Tensor  # [C, H, W]
    derivatives: Tensor  # [6, C, H, W] by (omega, v): view' = exp(twist) view, camera's frame


@torch.no_grad()
def pixel_jacobian(
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size
    view: Tensor,  # [4, 4] object to camera
    background: Tensor,  # [C]
    *,
    backend: str = "auto",
    colours: Tensor | None = None,  # [N, C]
    threads: int = 1,
) -> PixelJacobian:
    """Renders through `view` and through 12 views about it; nothing waits for the device."""
    exact = view.double()
    centre, radius = _extent(gaussians, exact)
    steps = _steps(camera, centre, radius)  # [6]
    twists = torch.cat([torch.diag(steps), -torch.diag(steps)])  # [12, 6] about the centre
    moved = torch.linalg.matrix_exp(_hat(twists @ to_centre(centre).inverse().T)) @ exact
    views = torch.cat([exact[None], moved])
    images = render_batch(
        gaussians, camera, views, background,
        backend=backend, colours=colours, threads=threads, at_once=len(views),
    ).images  # fmt: skip
    about_centre = (images[1:7] - images[7:]) / (2 * steps).to(images)[:, None, None, None]
    derivatives = torch.einsum("ji,jchw->ichw", to_centre(centre).to(images), about_centre)
    return PixelJacobian(images[0], derivatives)


def to_centre(centre: Tensor) -> Tensor:
    """[6, 6] takes a twist in the camera's frame to the same motion about `centre` [3].

    The adjoint of a translation: omega' = omega, v' = v + omega x centre.
    """
    matrix = torch.eye(6, dtype=centre.dtype, device=centre.device)
    matrix[3:, :3] = -_cross(centre)
    return matrix


def _extent(gaussians: Gaussians, view: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of the Gaussians in the camera's frame [3] and their spread, float64."""
    means = gaussians.means.detach().double()
    middle = means.mean(dim=0)
    radius = (means - middle).square().sum(dim=1).mean().sqrt()
    return view[:3, :3] @ middle + view[:3, 3], radius


def _steps(camera: Camera, centre: Tensor, radius: Tensor) -> Tensor:
    """Sizes of the six perturbations (radians, world units) that move pixels by about STEP."""
    focal = 0.5 * (camera.fx + camera.fy)
    distance = centre[2].clamp_min(1e-3)
    shift = STEP * distance / focal
    ratio = distance / radius.clamp_min(1e-6)  # along the axis, only the rim moves
    turn = shift / radius.clamp_min(1e-6)
    return torch.stack([turn, turn, turn, shift, shift, shift * ratio.clamp_min(1.0)])


def _cross(vectors: Tensor) -> Tensor:
    """[..., 3] to the matrices of the cross product from the left, [..., 3, 3]."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, dim=-1).reshape(*vectors.shape[:-1], 3, 3)


def _hat(twists: Tensor) -> Tensor:
    """Twists (omega, v) [..., 6] as 4 x 4 generators."""
    matrices = torch.zeros(*twists.shape[:-1], 4, 4, dtype=twists.dtype, device=twists.device)
    matrices[..., :3, :3] = _cross(twists[..., :3])
    matrices[..., :3, 3] = twists[..., 3:]
    return matrices
