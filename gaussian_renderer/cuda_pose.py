"""Gauss-Newton normal equations of the pose by rendering alone, for gsplat and graphdeco.

The gradient J^T W r comes exactly from the rasteriser's own backward pass, so Levenberg-Marquardt
ends where the cost does. J^T W J only shapes the steps: its pixel Jacobian is taken by central
differences over one batch of 12 renders (one call with gsplat). Perturbations turn the object about
its own centre and shift it, each by about a quarter of a pixel: small against the low-pass filter
of 0.55 px that every splat carries, but large enough to average over the cut at alpha = 1/255,
whose jumps are what limits the accuracy (about 5 % of a column; without the cut 1 %).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .backends import select_backend
from .batch import render_batch

STEP = 0.25  # pixels that the object's rim or centre moves in one perturbation
_ORDERS = 12  # of the power series of a motion


class NormalSums(NamedTuple):
    """What `gaussian_renderer.cpu.pose.normal_sums` gives, in the same order; plain numbers."""

    jtj: list[float]  # 36, row by row: J^T W J of the twist (omega, v), camera frame
    jtr: list[float]  # 6: J^T W r, r = rendering - target
    loss: float  # sum over pixels of weight * Huber(|r|), |r| over the three channels
    weight: float  # sum of the final weights
    inliers: int  # pixels of positive weight with |r| <= huber
    pixels: int  # pixels of positive weight


def normal_sums(
    gaussians: Gaussians,
    camera: Camera,
    view: Tensor,  # [4, 4] object to camera
    target: Tensor,  # [3, H, W]
    background: Tensor,  # [3]
    huber: float,
    weights: Tensor | None = None,  # [H, W]
    *,
    backend: str = "auto",
    threads: int = 1,
) -> NormalSums:
    """One linearisation of the pose problem at `view`; the device is waited for once, at the end.

    See `gaussian_renderer.normal_equations` for the definition.
    """
    frozen, like = gaussians.detach(), gaussians.means
    view, target, background = view.detach(), target.detach().to(like), background.to(like)
    given = torch.ones_like(target[0]) if weights is None else weights.detach().to(like)
    moving = view.to(like).requires_grad_(True)
    screen = torch.zeros_like(like[:, :2])
    rasteriser = select_backend(backend, like.device)
    with torch.enable_grad():
        image, *_ = rasteriser.rasterise(
            frozen, camera, moving, background, None, False, screen, threads
        )
        cost, share, norm = huber_cost(image - target, huber)
        loss = (given * cost).double().sum()
        (by_view,) = torch.autograd.grad(loss, moving)
    jtr = twist_gradient(view.to(by_view.device).double(), by_view.double())
    robust = (given * share).detach()
    jacobian = pixel_jacobian(
        frozen, camera, view, background, backend=backend, threads=threads
    ).double()
    jtj = torch.einsum("ichw,jchw->ij", jacobian * robust.double(), jacobian)
    counted = given > 0
    counts = [((norm <= huber) & counted).sum(), counted.sum()]
    tail = torch.stack([loss.detach(), robust.double().sum(), *(c.double() for c in counts)])
    numbers = torch.cat([jtj.flatten(), jtr, tail]).tolist()
    return NormalSums(numbers[:36], numbers[36:42], numbers[42], numbers[43],
                      int(numbers[44]), int(numbers[45]))  # fmt: skip


def huber_cost(residual: Tensor, huber: float) -> tuple[Tensor, Tensor, Tensor]:
    """Huber's cost of residuals [..., C, H, W], its weight, and their norm, each [..., H, W]."""
    norm = residual.square().sum(dim=-3).clamp_min(1e-24).sqrt()
    held = norm.clamp_max(huber)
    return held * (norm - 0.5 * held), held / norm, norm


def twist_gradient(view: Tensor, by_view: Tensor) -> Tensor:
    """Gradient [..., 6] by the twist of view' = exp(twist) view, from that by view [..., 4, 4]."""
    generators = hat(torch.eye(6, dtype=view.dtype, device=view.device))  # [6, 4, 4]
    return ((generators @ view[..., None, :, :]) * by_view[..., None, :, :]).sum(dim=(-2, -1))


@torch.no_grad()
def pixel_jacobian(
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size
    view: Tensor,  # [4, 4] object to camera
    background: Tensor,  # [C]
    *,
    backend: str = "auto",
    threads: int = 1,
) -> Tensor:
    """Derivatives of every pixel by the twist (omega, v) of view' = exp(twist) view, [6, C, H, W].

    The twist is one in the camera's frame.
    """
    exact = view.to(gaussians.means.device).double()
    centre, radius = _extent(gaussians, exact)
    views, steps, about = perturbed(camera, exact, centre, radius)
    images = render_batch(
        gaussians, camera, views, background, backend=backend, threads=threads, at_once=12
    ).images
    about_centre = (images[:6] - images[6:]) / (2 * steps).to(images)[:, None, None, None]
    return torch.einsum("ji,jchw->ichw", about.to(images), about_centre)


def perturbed(
    camera: Camera,
    view: Tensor,  # [..., 4, 4] float64
    centre: Tensor,  # [..., 3] of the object, camera frame
    radius: Tensor,  # [...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Views [..., 12, 4, 4] for central differences: six motions about the centre, and back.

    Also their sizes [..., 6], and the matrix [..., 6, 6] that takes a twist in the camera's frame
    to these motions.
    """
    steps, about = _steps(camera, centre, radius), to_centre(centre)
    motions = torch.diag_embed(steps)
    back = to_centre(-centre)  # the inverse of `about`
    twists = torch.cat([motions, -motions], dim=-2) @ back.mT  # [..., 12, 6]
    return small_motion(twists) @ view[..., None, :, :], steps, about


def small_motion(twists: Tensor) -> Tensor:
    """Rigid motions [..., 4, 4] by twists (omega, v) [..., 6] of at most 0.3 radians, to 1e-14.

    The power series: torch.linalg.matrix_exp makes the host wait for the device.
    """
    generator = hat(twists)
    term = torch.eye(4, dtype=twists.dtype, device=twists.device).expand_as(generator)
    total = term
    for order in range(1, _ORDERS + 1):
        term = term @ generator / order
        total = total + term
    return total


def to_centre(centre: Tensor) -> Tensor:
    """[..., 6, 6] takes a twist in the camera's frame to the same motion about `centre` [..., 3].

    The adjoint of a translation: omega' = omega, v' = v + omega x centre.
    """
    eye = torch.eye(6, dtype=centre.dtype, device=centre.device)
    matrix = eye.expand(*centre.shape[:-1], 6, 6).clone()
    matrix[..., 3:, :3] = -_cross(centre)
    return matrix


def _extent(gaussians: Gaussians, view: Tensor) -> tuple[Tensor, Tensor]:
    """Centre of the Gaussians in the camera's frame [3] and their spread, float64."""
    means = gaussians.means.detach().double()
    middle = means.mean(dim=0)
    radius = (means - middle).square().sum(dim=1).mean().sqrt()
    return view[:3, :3] @ middle + view[:3, 3], radius


def _steps(camera: Camera, centre: Tensor, radius: Tensor) -> Tensor:
    """Sizes [..., 6] of the motions (radians, world units) that move pixels by about STEP."""
    focal = 0.5 * (camera.fx + camera.fy)
    distance = centre[..., 2].clamp_min(1e-3)
    shift = STEP * distance / focal
    ratio = distance / radius.clamp_min(1e-6)  # along the axis, only the rim moves
    turn = shift / radius.clamp_min(1e-6)
    away = shift * ratio.clamp_min(1.0)
    return torch.stack([turn, turn, turn, shift, shift, away], dim=-1)


def _cross(vectors: Tensor) -> Tensor:
    """[..., 3] to the matrices of the cross product from the left, [..., 3, 3]."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, dim=-1).reshape(*vectors.shape[:-1], 3, 3)


def hat(twists: Tensor) -> Tensor:
    """Twists (omega, v) [..., 6] as 4 x 4 generators."""
    matrices = torch.zeros(*twists.shape[:-1], 4, 4, dtype=twists.dtype, device=twists.device)
    matrices[..., :3, :3] = _cross(twists[..., :3])
    matrices[..., :3, 3] = twists[..., 3:]
    return matrices
