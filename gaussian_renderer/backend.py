"""What a rasteriser offers: one function that every backend has, and abilities that some have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .variants import Variants

if TYPE_CHECKING:
    from .optimiser import AdamGroup

Outputs = tuple[Tensor, Tensor, Tensor | None, Tensor]


class Rasterise(Protocol):
    """One view of the Gaussians. All backends implement the same formulas (docs/method.md)."""

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,  # intrinsics and size; its pose is already inside `view`
        view: Tensor,  # [4, 4] object to camera, dtype and device of the Gaussians
        background: Tensor,  # [C]
        colours: Tensor | None,  # [N, C] channels in place of the SH colours
        with_depth: bool,
        screen: Tensor,  # [N, 2] offsets of the projected means, pixels
        threads: int,
    ) -> Outputs:
        """Returns image [C, H, W], alpha [H, W], sum of weight * z [H, W] or None, radii [N]."""
        ...


@dataclass
class Splats:
    """B images of a backend that renders many views in one call."""

    images: Tensor  # [B, C, H, W]
    alphas: Tensor  # [B, H, W]
    depth_sums: Tensor | None  # [B, H, W] sum of weight * z
    radii: Tensor | None  # [B, N] int32 px, 0 where not drawn; None where clouds differ in size


class RasteriseViews(Protocol):
    """Many views in one call, each of the Gaussians themselves or of a variant of them."""

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,  # intrinsics and size
        views: Tensor,  # [B, 4, 4] object to camera
        background: Tensor,  # [C]
        colours: Tensor | None = None,  # [N, C], or [B, N, C] for each view its own
        with_depth: bool = False,
        *,
        screen: Tensor | None = None,  # [N, 2] offsets, the same in all views
        variants: Variants | None = None,  # what differs from one view to another
        owners: Tensor | None = None,  # [B] int64, the variant that each view shows
    ) -> Splats:
        """Renders B views; gradients flow to all inputs but the variants."""
        ...


class PoseRows(Protocol):
    """The normal equations of many poses (see `normal_equations.py` for the definition)."""

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,  # intrinsics and size
        views: Tensor,  # [K, 4, 4] object to camera
        targets: Tensor,  # [B, 3, H, W]
        background: Tensor,  # [3]
        huber: float,
        *,
        owners: Tensor,  # [K] int64, the target (and the variant) of each view
        variants: Variants | None = None,  # B of them
        weights: Tensor | None = None,  # [B, H, W], not negative
        threads: int = 1,
    ) -> Tensor:
        """J^T W J (36), J^T W r (6), loss, sum of weights, inliers, pixels: [K, 46] float64."""
        ...


class PhotometricLoss(Protocol):
    """(1 - l) L1 + l (1 - SSIM) of [C, H, W] images; gradients flow to the first."""

    def __call__(
        self, image: Tensor, target: Tensor, ssim_weight: float = 0.2, threads: int = 1
    ) -> Tensor: ...


class AdamStep(Protocol):
    """One step of Adam with bias correction, in place (see `optimiser.adam_reference`)."""

    def __call__(
        self,
        groups: Sequence["AdamGroup"],
        step: int,  # 1 for the first
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-15,
        threads: int = 1,
    ) -> None: ...


@dataclass(frozen=True)
class Backend:
    """One rasteriser and what else it is good at; None: another way is found without it."""

    name: str
    rasterise: Rasterise
    rasterise_views: RasteriseViews | None = None  # None: one view after the other
    pose_rows: PoseRows | None = None  # None: by rendering perturbed poses
    photometric_loss: PhotometricLoss | None = None  # None: that of another backend
    adam: AdamStep | None = None  # None: that of another backend

    def views(self, threads: int = 1) -> RasteriseViews:
        """Renders many views: in one call where the backend can, else one after the other."""
        return self.rasterise_views or one_by_one(self.rasterise, threads)


def one_by_one(rasterise: Rasterise, threads: int = 1) -> RasteriseViews:
    """Many views by a function that renders one; variants as clouds of their own."""

    def rasterise_views(
        gaussians: Gaussians,
        camera: Camera,
        views: Tensor,
        background: Tensor,
        colours: Tensor | None = None,
        with_depth: bool = False,
        *,
        screen: Tensor | None = None,
        variants: Variants | None = None,
        owners: Tensor | None = None,
    ) -> Splats:
        shown = [None] * len(views) if variants is None or owners is None else owners.tolist()
        images, alphas, depths, radii = [], [], [], []
        for number, (view, owner) in enumerate(zip(views, shown, strict=True)):
            cloud = gaussians if variants is None or owner is None else variants.gaussians_of(owner)
            own = colours[number] if colours is not None and colours.dim() == 3 else colours
            offsets = torch.zeros_like(cloud.means[:, :2]) if screen is None else screen
            image, alpha, depth, sizes = rasterise(
                cloud, camera, view, background, own, with_depth, offsets, threads
            )
            images.append(image)
            alphas.append(alpha)
            depths += [] if depth is None else [depth]
            radii.append(sizes)
        return Splats(
            _stacked(images), _stacked(alphas), _stacked(depths) if depths else None,
            _stacked(radii) if variants is None else None,
        )  # fmt: skip

    return rasterise_views


def _stacked(parts: list[Tensor]) -> Tensor:
    """Tensors along a new first dimension; one alone is not copied."""
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)


def one_view(rasterise_views: RasteriseViews) -> Rasterise:
    """One view by a function that renders many; on a GPU, where `threads` has no meaning."""

    def rasterise(
        gaussians: Gaussians,
        camera: Camera,
        view: Tensor,
        background: Tensor,
        colours: Tensor | None,
        with_depth: bool,
        screen: Tensor,
        threads: int,
    ) -> Outputs:
        splats = rasterise_views(
            gaussians, camera, view[None], background, colours, with_depth, screen=screen
        )
        assert splats.radii is not None
        depth_sum = None if splats.depth_sums is None else splats.depth_sums[0]
        return splats.images[0], splats.alphas[0], depth_sum, splats.radii[0]

    return rasterise
