"""`gaussian_renderer.reference`, but ending every splat where the rasteriser of 3DGS does.

That one draws a Gaussian in the tiles of 16 x 16 pixels that touch a square around its centre. The
square's half side is 3 sigma of the longer axis, rounded up to pixels. To the right and below,
the square ends up to one pixel early where a tile begins, so that a narrow splat may be cut at
2 sigma, where alpha is far over 1/255. With this cut the two can be compared at any opacity.
"""

import torch
from torch import Tensor

from gaussian_renderer import reference, sh_colours
from gaussian_renderer.reference import Projected
from scene import Camera, Gaussians

TILE = 16  # pixels
_LEAST = 0.1  # px^4, what the package holds the squared half difference of the eigenvalues above


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
    """See `gaussian_renderer.backend.Rasterise`; with depth and colours of the SH only."""
    projected = reference.project(gaussians, camera, view, screen)
    radii = _radii(projected)
    low, high = _tiles(projected.means.detach(), radii, camera)
    channels = sh_colours(gaussians.sh[projected.index], projected.directions)
    channels = torch.cat([channels, projected.depths[:, None]], dim=1)
    stacked = channels.new_zeros(channels.shape[1] + 1, camera.height, camera.width)
    for top in range(0, camera.height, TILE):
        for left in range(0, camera.width, TILE):
            tile = low.new_tensor([left // TILE, top // TILE])
            touching = ((tile >= low) & (tile < high)).all(dim=1).nonzero().squeeze(1)
            xs = torch.arange(left, min(left + TILE, camera.width)).to(channels) + 0.5
            ys = torch.arange(top, min(top + TILE, camera.height)).to(channels) + 0.5
            blended, alpha = reference._blend_tile(projected, channels, touching, xs, ys)
            values = torch.cat([blended, alpha[:, None]], dim=1).T
            stacked[:, top : top + TILE, left : left + TILE] = values.unflatten(
                1, (len(ys), len(xs))
            )
    alpha = stacked[-1]
    image = stacked[:3] + (1 - alpha) * background[:, None, None]
    drawn = (high > low).all(dim=1)
    sizes = torch.zeros(len(gaussians), dtype=torch.int32, device=radii.device)
    sizes = sizes.index_put((projected.index,), (radii * drawn).to(torch.int32))
    return image, alpha, stacked[3], sizes


def _radii(projected: Projected) -> Tensor:
    """Half sides of the squares, [M] whole pixels."""
    a, b, c = projected.conics.detach().unbind(-1)
    determinant = 1 / (a * c - b * b)  # of the covariance
    mean = 0.5 * (a + c) * determinant
    largest = mean + torch.sqrt((mean * mean - determinant).clamp_min(_LEAST))
    return torch.ceil(3 * torch.sqrt(largest))


def _tiles(means: Tensor, radii: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """First column and row of the tiles of each square, [M, 2], and the ones after the last."""
    centres = means - 0.5  # the package counts pixel centres as whole numbers
    limits = means.new_tensor([-(-camera.width // TILE), -(-camera.height // TILE)])
    low = torch.trunc((centres - radii[:, None]) / TILE)
    high = torch.trunc((centres + radii[:, None] + TILE - 1) / TILE)
    return low.clamp_min(0).minimum(limits), high.clamp_min(0).minimum(limits)
