"""Adapter to gsplat (Apache-2.0, CUDA), 1.5.3 or newer; many views in one call.

gsplat's stages are called one by one instead of its front door: the offsets `screen` can so be
added to the projected means, whose gradient is then dL/d(u, v); colours are evaluated by our own
spherical harmonics in the object's frame; depth is blended as one more channel (sum of weight * z);
and the background is added here, which gsplat 1.5.3 refuses in packed mode. gsplat holds alpha at
0.999 where we hold it at 0.99: see docs/gpu.md.
"""

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .backend import Backend, Splats, one_view
from .reference import ALPHA_MIN, LOW_PASS, NEAR
from .spherical_harmonics import sh_colours
from .variants import Variants

TILE = 16  # pixels; the size that gsplat is tested with


def _package() -> ModuleType:
    return importlib.import_module("gsplat")


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
    """Renders the Gaussians through B views at once; gradients flow to all inputs.

    Variants share one projection: gsplat 1.5.3 takes leading dimensions for objects of their own,
    but in packed mode it bounds all of them by the first one's opacities (its pull request 772),
    and its backward pass mixes the view gradients of neighbouring objects (1059).
    """
    gsplat = _package()
    batch = views.shape[0]
    intrinsics = camera.intrinsics.to(views, non_blocking=True).expand(batch, 3, 3)
    shared = gaussians.opacities if variants is None else None  # only bounds the splats
    _, view_ids, ids, *splats, _ = gsplat.fully_fused_projection(
        gaussians.means, None, gaussians.quaternions, gaussians.scales, views, intrinsics,
        camera.width, camera.height, eps2d=LOW_PASS, near_plane=NEAR, radius_clip=0.0,
        packed=True, opacities=shared,
    )  # fmt: skip
    if shared is None:
        view_ids, ids, opacities, *splats = _drawn(variants, owners, view_ids, ids, splats)
    else:
        opacities = shared[ids]
    radii, centres, depths, conics = splats
    rows, columns = view_ids.long(), ids.long()
    if screen is not None:
        centres = centres + screen[columns]
    channels = _channels(gaussians, views, colours, rows, columns, variants, owners)
    count = background.shape[0]
    if with_depth:
        channels = torch.cat([channels, depths[:, None]], dim=1)
    tiles = -(-camera.width // TILE), -(-camera.height // TILE)
    _, intersections, order = gsplat.isect_tiles(
        centres, radii, depths, TILE, *tiles,
        packed=True, n_images=batch, image_ids=view_ids, gaussian_ids=ids,
    )  # fmt: skip
    starts = gsplat.isect_offset_encode(intersections, batch, *tiles)
    blended, alphas = gsplat.rasterize_to_pixels(
        centres, conics, channels, opacities, camera.width, camera.height, TILE,
        starts.reshape(batch, tiles[1], tiles[0]), order, packed=True,
    )  # fmt: skip
    alphas = alphas[..., 0]  # [B, H, W]
    blended = blended.permute(0, 3, 1, 2)  # [B, C (+ 1), H, W]
    images = blended[:, :count] + (1 - alphas)[:, None] * background[:, None, None]
    drawn = torch.zeros(batch, len(gaussians), dtype=torch.int32, device=views.device)
    drawn[rows, columns] = radii.amax(dim=-1).to(torch.int32)
    depth_sums = blended[:, count] if with_depth else None
    return Splats(images, alphas, depth_sums, drawn)


BACKEND = Backend("gsplat", one_view(rasterise_views), rasterise_views=rasterise_views)


def _drawn(
    variants: Variants | None, owners: Tensor | None, view_ids: Tensor, ids: Tensor, splats: Any
) -> list[Tensor]:
    """The pairs of view and Gaussian whose own opacity shows: ids, opacities, projections."""
    assert variants is not None
    assert owners is not None
    opacities = variants.opacities[owners[view_ids], ids]
    kept = (opacities >= ALPHA_MIN).nonzero().squeeze(1)
    return [part.index_select(0, kept) for part in (view_ids, ids, opacities, *splats)]


def _channels(
    gaussians: Gaussians,
    views: Tensor,
    colours: Tensor | None,
    rows: Tensor,
    columns: Tensor,
    variants: Variants | None,
    owners: Tensor | None,
) -> Tensor:
    """Channels of the drawn (view, Gaussian) pairs, [V, C]."""
    if colours is not None:
        return colours[columns] if colours.dim() == 2 else _pairs(colours, rows, columns)
    rotations, translations = views[:, :3, :3], views[:, :3, 3]
    points = gaussians.means @ rotations.transpose(1, 2) + translations[:, None]  # [B, N, 3]
    directions = torch.nn.functional.normalize(points @ rotations, dim=-1)  # object's frame
    sh = gaussians.sh[columns]
    if variants is not None and variants.sh_constant is not None and owners is not None:
        constant = variants.sh_constant[owners[rows], columns]
        sh = torch.cat([constant[:, None], sh[:, 1:]], dim=1)
    return sh_colours(sh, _pairs(directions, rows, columns))


def _pairs(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Entries [V, C] of values [B, N, C]; no pair comes twice, so the gradient needs no sorting."""
    return values.flatten(0, 1).index_select(0, rows * values.shape[1] + columns)
