"""Gauss-Newton normal equations of poses by rendering alone, for backends without their own.

The gradient J^T W r comes exactly from the rasteriser's own backward pass, so Levenberg-Marquardt
ends where the cost does. J^T W J only shapes the steps: its pixel Jacobian is taken by central
differences over 12 renders of each pose (one call with gsplat). Perturbations turn the object about
its own centre and shift it, each by about a quarter of a pixel: small against the low-pass filter
of 0.55 px that every splat carries, but large enough to average over the cut at alpha = 1/255,
whose jumps are what limits the accuracy (about 5 % of a column; without the cut 1 %).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians
from scene.se3 import adjoint, hat, twist_exp

from .backend import Backend, RasteriseViews
from .variants import Variants

STEP = 0.25  # pixels that the object's rim or centre moves in one perturbation
_PERTURBED = 12  # renders that one J^T W J takes
_PIXELS_AT_ONCE = 2**24  # of all perturbed renders in one call; bounds the memory
_VIEWS_AT_ONCE = 192  # beyond that, a call has work enough for any GPU


def pose_rows_by_rendering(
    backend: Backend,
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size
    views: Tensor,  # [K, 4, 4] object to camera
    targets: Tensor,  # [B, 3, H, W]
    background: Tensor,  # [3]
    huber: float,
    *,
    owners: Tensor,  # [K] int64, the target (and the variant) of each view
    variants: Variants | None = None,
    weights: Tensor | None = None,  # [B, H, W]
    threads: int = 1,
) -> Tensor:
    """See `gaussian_renderer.backend.PoseRows`: [K, 46] float64 on the device, without waiting.

    The renderer's own waits come on top.
    """
    rows = _Rows(
        backend.views(threads), gaussians.detach(), camera, targets.detach(),
        background, huber, variants, weights,
    )  # fmt: skip
    pixels = camera.width * camera.height
    most = max(1, min(_VIEWS_AT_ONCE, _PIXELS_AT_ONCE // pixels) // _PERTURBED)
    views = views.detach().to(gaussians.means.device).double()
    chunks = zip(owners.split(most), views.split(most), strict=True)
    return torch.cat([rows.linearise(*chunk) for chunk in chunks])


@dataclass
class _Rows:
    """What all poses share."""

    rasterise_views: RasteriseViews
    gaussians: Gaussians
    camera: Camera
    targets: Tensor
    background: Tensor
    huber: float
    variants: Variants | None
    weights: Tensor | None

    def linearise(self, owners: Tensor, views: Tensor) -> Tensor:
        """One row of 46 numbers for each of K views [K, 4, 4] float64."""
        given = torch.ones_like(self.targets[:, 0]) if self.weights is None else self.weights
        given = given[owners].detach()
        moving = views.to(self.targets).requires_grad_(True)
        with torch.enable_grad():
            residuals = self._render(owners, moving) - self.targets[owners]
            cost, share, norm = huber_cost(residuals, self.huber)
            losses = (given * cost).double().sum(dim=(1, 2))
            (by_view,) = torch.autograd.grad(losses.sum(), moving)
        robust, counted = (given * share).detach().double(), given > 0
        jacobian = self._jacobian(owners, views).double().flatten(2)  # [K, 6, 3 H W]
        weighted = (jacobian.unflatten(2, (3, -1)) * robust.flatten(1)[:, None, None]).flatten(2)
        jtj = (weighted @ jacobian.mT).flatten(1)
        jtr = twist_gradient(views, by_view.double())
        inliers = ((norm.detach() <= self.huber) & counted).sum(dim=(1, 2))
        counts = [robust.sum(dim=(1, 2)), inliers.double(), counted.sum(dim=(1, 2)).double()]
        return torch.cat([jtj, jtr, torch.stack([losses.detach(), *counts], dim=1)], dim=1)

    @torch.no_grad()
    def _jacobian(self, owners: Tensor, views: Tensor) -> Tensor:
        """Derivatives of every pixel by the twist in the camera's frame, [K, 6, 3, H, W]."""
        middles, radii = _extents(self.gaussians, self.variants, owners)
        centres = (views[:, :3, :3] @ middles[..., None])[..., 0] + views[:, :3, 3]
        moved, steps, about = perturbed(self.camera, views, centres, radii)
        images = self._render(
            owners.repeat_interleave(_PERTURBED), moved.flatten(0, 1).to(self.targets)
        ).unflatten(0, (-1, 2, 6))
        slopes = (images[:, 0] - images[:, 1]) / (2 * steps).to(images)[..., None, None, None]
        return torch.einsum("kji,kjchw->kichw", about.to(images), slopes)

    def _render(self, owners: Tensor, views: Tensor) -> Tensor:
        """Images [V, 3, H, W] of what `owners` [V] show through `views` [V, 4, 4]."""
        return self.rasterise_views(
            self.gaussians, self.camera, views, self.background,
            variants=self.variants, owners=owners,
        ).images  # fmt: skip


def huber_cost(residual: Tensor, huber: float) -> tuple[Tensor, Tensor, Tensor]:
    """Huber's cost of residuals [..., C, H, W], its weight, and their norm, each [..., H, W]."""
    norm = residual.square().sum(dim=-3).clamp_min(1e-24).sqrt()
    held = norm.clamp_max(huber)
    return held * (norm - 0.5 * held), held / norm, norm


def twist_gradient(view: Tensor, by_view: Tensor) -> Tensor:
    """Gradient [..., 6] by the twist of view' = exp(twist) view, from that by view [..., 4, 4].

    With M = (d loss / d view) view^T, the loss changes by tr(M^T G) along a generator G.
    """
    moment = by_view @ view.mT
    turn = hat(torch.eye(3, dtype=view.dtype, device=view.device))  # [3, 3, 3]
    by_omega = (turn * moment[..., None, :3, :3]).sum(dim=(-2, -1))
    return torch.cat([by_omega, moment[..., :3, 3]], dim=-1)


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
    steps, about = _steps(camera, centre, radius), adjoint(_shift(-centre))
    motions = torch.diag_embed(steps)
    twists = torch.cat([motions, -motions], dim=-2) @ adjoint(_shift(centre)).mT  # [..., 12, 6]
    return twist_exp(twists) @ view[..., None, :, :], steps, about


def _shift(offset: Tensor) -> Tensor:
    """Translations [..., 4, 4] by offsets [..., 3]."""
    eye = torch.eye(4, dtype=offset.dtype, device=offset.device)
    matrix = eye.expand(*offset.shape[:-1], 4, 4).clone()
    matrix[..., :3, 3] = offset
    return matrix


def _extents(
    gaussians: Gaussians, variants: Variants | None, owners: Tensor
) -> tuple[Tensor, Tensor]:
    """Centre [K, 3] of what each view shows, in the object's frame, and the spread [K]."""
    if variants is not None:
        middles, radii = variants.extents()
        return middles[owners], radii[owners]
    means = gaussians.means.double()
    middle = means.mean(dim=0)
    radius = (means - middle).square().sum(dim=1).mean().sqrt()
    return middle.expand(len(owners), 3), radius.expand(len(owners))


def _steps(camera: Camera, centre: Tensor, radius: Tensor) -> Tensor:
    """Sizes [..., 6] of the motions (radians, world units) that move pixels by about STEP."""
    focal = 0.5 * (camera.fx + camera.fy)
    distance = centre[..., 2].clamp_min(1e-3)
    shift = STEP * distance / focal
    ratio = distance / radius.clamp_min(1e-6)  # along the axis, only the rim moves
    turn = shift / radius.clamp_min(1e-6)
    away = shift * ratio.clamp_min(1.0)
    return torch.stack([turn, turn, turn, shift, shift, away], dim=-1)
