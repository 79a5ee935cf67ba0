"""Normal equations of many poses of one object, each before a picture of its own, in few calls."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scene import Camera

from .backends import select_backend
from .cuda_pose import huber_cost, perturbed, twist_gradient
from .normal_equations import NormalEquations
from .variants import Variants

_PIXELS_AT_ONCE = 2**24  # of all perturbed renders in one call; bounds the memory
_VIEWS_AT_ONCE = 192  # beyond that, a call has work enough for any GPU
_PERTURBED = 12  # renders that one J^T W J takes
_NUMBERS_AT_ONCE = 2**27  # of the derivatives of all Gaussians in one call; bounds the memory
_DERIVATIVES = 48  # of one Gaussian in one view


class PoseProblems:
    """B problems; the pictures and what is seen of the object stay, poses are asked for.

    With a backend that offers `pose_rows` all is exact, from one pass over the pixels. With
    another, the gradients of all problems come exactly from one backward pass of the summed robust
    costs, J^T W J from 12 perturbed renders each. The device is waited for once, at the end; the
    renderer's own waits come on top. For backends with `renders_many` (see batch.py).
    """

    def __init__(
        self,
        variants: Variants,  # B of them
        camera: Camera,  # lens and size of all pictures
        targets: Tensor,  # [B, 3, H, W]
        background: Tensor,  # [3]
        *,
        huber: float = 0.1,
        backend: str = "auto",
    ) -> None:
        rasteriser: Any = select_backend(backend, variants.gaussians.means.device)
        self._rasterise = rasteriser.rasterise_views
        self._exact = getattr(rasteriser, "pose_rows", None)
        self._variants, self._camera, self._targets = variants, camera, targets
        self._background, self._huber = background, huber
        self._middles, self._radii = variants.extents()

    def __call__(self, numbers: Sequence[int], poses: Tensor) -> list[NormalEquations]:
        """The equations of some of the problems at world_to_camera [K, 4, 4], in that order."""
        like = self._targets
        which = torch.tensor(list(numbers)).to(like.device, non_blocking=True)
        views = poses.to(like.device, torch.float64, non_blocking=True)
        most, rows = self._most_at_once(), self._in_one_pass if self._exact else self._together
        parts = [rows(*chunk) for chunk in zip(which.split(most), views.split(most), strict=True)]
        return [NormalEquations.from_row(row) for row in torch.cat(parts).cpu()]

    def _most_at_once(self) -> int:
        """Problems in one call, as far as the memory allows."""
        if self._exact:
            count = max(1, len(self._variants.gaussians)) * _DERIVATIVES
            return max(1, _NUMBERS_AT_ONCE // count)
        pixels = self._camera.width * self._camera.height
        return max(1, min(_VIEWS_AT_ONCE, _PIXELS_AT_ONCE // pixels) // _PERTURBED)

    def _in_one_pass(self, which: Tensor, views: Tensor) -> Tensor:
        """As `_together`, by the renderer's own derivatives."""
        assert self._exact is not None
        rows: Tensor = self._exact(
            self._variants.gaussians, self._camera, views, self._targets, self._background,
            self._huber, owners=which, variants=self._variants,
        )  # fmt: skip
        return rows

    def _together(self, which: Tensor, views: Tensor) -> Tensor:
        """One row of 46 numbers for each of K problems, float64, on the device."""
        by_view, loss, share, norm = self._gradient(which, views)
        jtj = self._curvature(which, views, share)
        jtr = twist_gradient(views, by_view.double())
        counts = [
            share.double().sum(dim=(1, 2)),
            (norm <= self._huber).sum(dim=(1, 2)).double(),
            torch.full_like(loss, norm[0].numel()),
        ]
        return torch.cat([jtj.flatten(1), jtr, torch.stack([loss, *counts], dim=1)], dim=1)

    def _gradient(self, which: Tensor, views: Tensor) -> tuple[Tensor, ...]:
        """d loss / d view, loss, Huber's weights and norms of the residuals."""
        moving = views.to(self._targets).requires_grad_(True)
        with torch.enable_grad():
            images = self._render(which, moving)
            cost, share, norm = huber_cost(images - self._targets[which], self._huber)
            losses = cost.double().sum(dim=(1, 2))
            (by_view,) = torch.autograd.grad(losses.sum(), moving)
        return by_view, losses.detach(), share.detach(), norm.detach()

    @torch.no_grad()
    def _curvature(self, which: Tensor, views: Tensor, share: Tensor) -> Tensor:
        """J^T W J of the twist in the camera's frame, [K, 6, 6] float64."""
        middles, radii = self._middles[which], self._radii[which]
        centres = (views[:, :3, :3] @ middles[..., None])[..., 0] + views[:, :3, 3]
        moved, steps, about = perturbed(self._camera, views, centres, radii)
        owners = which.repeat_interleave(_PERTURBED)
        images = self._render(owners, moved.flatten(0, 1).to(self._targets))
        images = images.unflatten(0, (-1, 2, 6))
        slopes = (images[:, 0] - images[:, 1]).double() / (2 * steps)[..., None, None, None]
        weighted = (slopes * share[:, None, None]).flatten(2)  # [K, 6, 3 H W]
        return about.mT @ (weighted @ slopes.flatten(2).mT) @ about

    def _render(self, owners: Tensor, views: Tensor) -> Tensor:
        """Images [V, 3, H, W] of the variants `owners` [V] through `views` [V, 4, 4]."""
        images: Tensor = self._rasterise(
            self._variants.gaussians, self._camera, views, self._background,
            variants=self._variants, owners=owners,
        ).images  # fmt: skip
        return images
