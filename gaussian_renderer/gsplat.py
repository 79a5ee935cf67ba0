"""Adapter to gsplat (Apache-2.0, CUDA), 1.5.3 or newer; many views in one call.

gsplat's stages are called one by one instead of its front door: the offsets `screen` can so be
added to the projected means, whose gradient is then dL/d(u, v); colours are evaluated by our own
spherical harmonics in the object's frame; depth is blended as one more channel (sum of weight * z);
and the background is added here, which gsplat 1.5.3 refuses in packed mode. gsplat holds alpha at
0.999 where we hold it at 0.99: see docs/gpu.md.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .reference import LOW_PASS, NEAR
from .spherical_harmonics import sh_colours

TILE = 16  # pixels; the size that gsplat is tested with


def _package() -> ModuleType:
    return importlib.import_module("gsplat")


@dataclass
class Splats:
    """B images and what growth may want to know about the Gaussians in them."""

    images: Tensor  # [B, C, H, W]
    alphas: Tensor  # [B, H, W]
    depth_sums: Tensor | None  # [B, H, W] sum of weight * z
    radii: Tensor  # [B, N] int32 px, 0 where not drawn
    centres: Tensor  # [V, 2] px, of the V drawn (view, Gaussian) pairs
    gaussian_ids: Tensor  # [V]

    def absolute_screen_gradients(self) -> Tensor:
        """Sum over pixels of |dL/d(u, v)| per Gaussian, [N, 2] (AbsGS, Ye et al. 2024).

        After `backward`, and only if `absgrad` was asked for.
        """
        gradients: Tensor = self.centres.absgrad  # type: ignore[attr-defined]  # set by gsplat
        total = gradients.new_zeros(self.radii.shape[1], 2)
        return total.index_add(0, self.gaussian_ids, gradients)


def rasterise(
    gaussians: Gaussians,
    camera: Camera,
    view: Tensor,
    background: Tensor,
    colours: Tensor | None,
    with_depth: bool,
    screen: Tensor,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """See `gaussian_renderer.rendering.Backend`; `threads` has no meaning on a GPU."""
    splats = rasterise_views(
        gaussians, camera, view[None], background, colours, with_depth, screen=screen
    )
    depth_sum = None if splats.depth_sums is None else splats.depth_sums[0]
    return splats.images[0], splats.alphas[0], depth_sum, splats.radii[0]


def rasterise_views(
    gaussians: Gaussians,
    camera: Camera,  # intrinsics and size
    views: Tensor,  # [B, 4, 4] object to camera
    background: Tensor,  # [C]
    colours: Tensor | None = None,  # [N, C]
    with_depth: bool = False,
    *,
    screen: Tensor | None = None,  # [N, 2] offsets of the projected means, the same in all views
    absgrad: bool = False,
) -> Splats:
    """Renders the Gaussians through B views at once; gradients flow to all inputs."""
    gsplat = _package()
    batch = views.shape[0]
    intrinsics = camera.intrinsics.to(views).expand(batch, 3, 3)
    opacities = gaussians.opacities
    _, view_ids, ids, radii, centres, depths, conics, _ = gsplat.fully_fused_projection(
        gaussians.means, None, gaussians.quaternions, gaussians.scales, views, intrinsics,
        camera.width, camera.height, eps2d=LOW_PASS, near_plane=NEAR, radius_clip=0.0,
        packed=True, opacities=opacities,
    )  # fmt: skip
    rows, columns = view_ids.long(), ids.long()
    if screen is not None:
        centres = centres + screen[columns]
    channels = _channels(gaussians, views, colours, rows, columns)
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
        centres, conics, channels, opacities[columns], camera.width, camera.height, TILE,
        starts.reshape(batch, tiles[1], tiles[0]), order, packed=True, absgrad=absgrad,
    )  # fmt: skip
    alphas = alphas[..., 0]  # [B, H, W]
    blended = blended.permute(0, 3, 1, 2)  # [B, C (+ 1), H, W]
    images = blended[:, :count] + (1 - alphas)[:, None] * background[:, None, None]
    drawn = torch.zeros(batch, len(gaussians), dtype=torch.int32, device=views.device)
    drawn[rows, columns] = radii.amax(dim=-1).to(torch.int32)
    depth_sums = blended[:, count] if with_depth else None
    return Splats(images, alphas, depth_sums, drawn, centres, columns)


def _channels(
    gaussians: Gaussians, views: Tensor, colours: Tensor | None, rows: Tensor, columns: Tensor
) -> Tensor:
    """Channels of the drawn (view, Gaussian) pairs, [V, C]."""
    if colours is not None:
        return colours[columns]
    rotations, translations = views[:, :3, :3], views[:, :3, 3]
    points = gaussians.means @ rotations.transpose(1, 2) + translations[:, None]  # [B, N, 3]
    directions = torch.nn.functional.normalize(points @ rotations, dim=-1)  # object's frame
    return sh_colours(gaussians.sh[columns], directions[rows, columns])
