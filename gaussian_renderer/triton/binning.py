"""Which Gaussians touch which tiles of which views, nearest first."""

from typing import NamedTuple

import torch
from torch import Tensor

from scene import Camera

from ..reference import ALPHA_MIN

TILE = 16  # pixels on a side


class Bins(NamedTuple):
    """P pairs of a Gaussian and a tile, made view by view and Gaussian by Gaussian.

    Lists: the pairs of one tile stand together, nearest first, view by view and row by row.
    Slots: the pairs of one Gaussian in one view stand together, so that what its tiles say of it
    can be added up in a fixed order.
    """

    splats: Tensor  # [P] int64 view * N + Gaussian, in the order of the lists
    slots: Tensor  # [P] int64, where each listed pair was before
    starts: Tensor  # [B * tiles + 1] int64, where the list of each tile begins
    lengths: Tensor  # [B * N] int64 tiles of each Gaussian


def tiles_of(camera: Camera) -> tuple[int, int]:
    """Tiles across and down."""
    return -(-camera.width // TILE), -(-camera.height // TILE)


@torch.no_grad()
def half_extents(opacities: Tensor, spreads: Tensor) -> Tensor:
    """Pixels [B, N, 2] beyond which alpha is under 1/255; 0 where nothing is drawn."""
    reach = 2 * torch.log((opacities / ALPHA_MIN).clamp_min(1.0))
    drawn = (opacities >= ALPHA_MIN) & (spreads[..., 0] > 0)
    return torch.sqrt(reach[..., None] * spreads) * drawn[..., None]


@torch.no_grad()
def radii_of(pixels: Tensor, halves: Tensor, camera: Camera) -> Tensor:
    """Half the longer side of each rectangle, [B, N] int32 px; 0 where not on the image."""
    size = pixels.new_tensor([camera.width, camera.height])
    longest = halves.amax(dim=-1)
    shown = ((pixels + halves >= 0) & (pixels - halves <= size)).all(dim=-1) & (longest > 0)
    return torch.where(shown, longest.ceil().clamp(1, 1e9), 0.0).to(torch.int32)


@torch.no_grad()
def bin_splats(pixels: Tensor, halves: Tensor, depths: Tensor, camera: Camera) -> Bins:
    """Lists the pairs; the device is waited for once, to learn how many there are.

    Rectangles count where they hold the centre of a pixel. Equal depths keep the Gaussians' order.
    """
    across, down = tiles_of(camera)
    last = pixels.new_tensor([camera.width - 1, camera.height - 1])
    low = (pixels - halves - 0.5).ceil().clamp_min(0)
    high = torch.minimum((pixels + halves - 0.5).floor(), last)
    finite = torch.isfinite(halves).all(dim=-1) & torch.isfinite(pixels).all(dim=-1)
    on_image = finite & (low <= high).all(dim=-1) & (halves[..., 0] > 0)
    corner = torch.where(on_image[..., None], low, 0).to(torch.int64) // TILE
    end = torch.where(on_image[..., None], high, 0).to(torch.int64) // TILE + 1
    widths = end[..., 0] - corner[..., 0]
    lengths = (widths * (end[..., 1] - corner[..., 1]) * on_image).flatten()
    ends = lengths.cumsum(0)
    total = int(ends[-1])
    splats = torch.repeat_interleave(lengths, output_size=total)
    place = torch.arange(total, device=pixels.device) - (ends - lengths)[splats]
    columns, rows = corner.flatten(0, 1)[splats].unbind(-1)
    row = torch.div(place, widths.flatten()[splats], rounding_mode="floor")
    column = place - row * widths.flatten()[splats]
    views = torch.div(splats, pixels.shape[1], rounding_mode="floor")
    tiles = (views * down + rows + row) * across + columns + column
    # the bits of a positive float are in the order of its value
    nearness = depths.detach().float().flatten().view(torch.int32)[splats].long()
    keys, slots = (tiles << 32 | nearness).sort(stable=True)
    lists = torch.arange(len(pixels) * across * down + 1, device=pixels.device)
    return Bins(splats[slots], slots, torch.searchsorted(keys >> 32, lists), lengths)
