"""Rendering by our own Triton kernels: many views, exact gradients, the same bits every time."""

import torch
from torch import Tensor

from scene import Camera, Gaussians

from ..backend import Splats, one_view
from ..variants import Variants
from .binning import bin_splats, cover
from .blending import blend
from .colours import seen_colours
from .projection import project


def rasterise_views(
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size
    views: Tensor,  # [B, 4, 4] object to camera
    background: Tensor,  # [C]
    colours: Tensor | None = None,  # [N, C], or [B, N, C] for each view its own
    with_depth: bool = False,
    *,
    screen: Tensor | None = None,  # [N, 2] offsets of the projected means, the same in all views
    variants: Variants | None = None,  # what differs from one view to another
    owners: Tensor | None = None,  # [B] int64, the variant that each view shows
) -> Splats:
    """Renders the Gaussians through B views at once; gradients flow to all inputs but variants."""
    pixels, conics, depths, spreads = project(
        gaussians.means, gaussians.log_scales, gaussians.quaternions, views, camera
    )
    if screen is not None:
        pixels = pixels + screen
    opacities = opacities_of(gaussians, len(views), variants, owners)
    covers = cover(pixels, spreads, opacities, camera)
    bins = bin_splats(covers, depths, camera)
    if colours is None:
        constant = None if variants is None else variants.sh_constant
        constant = constant if constant is None or owners is None else constant[owners]
        channels = seen_colours(gaussians.means, gaussians.sh, views, constant)
    else:
        channels = colours.expand(len(views), len(gaussians), -1)
    if with_depth:
        channels = torch.cat([channels, depths[..., None]], dim=2)
    blended, alphas = blend(pixels, conics, opacities, channels, bins, camera)
    count = background.shape[0]
    images = blended[:, :count] + (1 - alphas)[:, None] * background[:, None, None]
    depth_sums = blended[:, count] if with_depth else None
    return Splats(images, alphas, depth_sums, covers.radii)


rasterise = one_view(rasterise_views)


def opacities_of(
    gaussians: Gaussians, count: int, variants: Variants | None, owners: Tensor | None
) -> Tensor:
    """Opacities [B, N] of B views, 0 where a variant does not show a Gaussian."""
    if variants is None or owners is None:
        return gaussians.opacities.expand(count, -1)
    return variants.opacities[owners]
