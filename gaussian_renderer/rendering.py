"""What a renderer gives back, and what every backend must offer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from scene import Camera, Gaussians


@dataclass
class Rendering:
    """One image of the Gaussians."""

    image: Tensor  # [C, H, W]; not clamped: clamp before converting to bytes
    alpha: Tensor  # [H, W], 0 to 1
    depth: Tensor | None  # [H, W] alpha-weighted mean camera z, 0 where nothing was hit
    screen: Tensor  # [N, 2] zeros added to the projected means; .grad after backward = dL/d(u, v)
    radii: Tensor  # [N] int32, pixels; 0 for a Gaussian that was not drawn


@dataclass
class Splats:
    """B images by a backend that renders many views in one call."""

    images: Tensor  # [B, C, H, W]
    alphas: Tensor  # [B, H, W]
    depth_sums: Tensor | None  # [B, H, W] sum of weight * z
    radii: Tensor  # [B, N] int32 px, 0 where not drawn


class Backend(Protocol):
    """One rasteriser. All backends implement the same formulas (see docs/method.md)."""

    def rasterise(
        self,
        gaussians: Gaussians,
        camera: Camera,  # intrinsics and size; its pose is already inside `view`
        view: Tensor,  # [4, 4] object to camera, dtype and device of the Gaussians
        background: Tensor,  # [C]
        colours: Tensor | None,  # [N, C] channels in place of the SH colours
        with_depth: bool,
        screen: Tensor,  # [N, 2] offsets of the projected means, pixels
        threads: int,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Returns image [C, H, W], alpha [H, W], sum of weight * z [H, W] or None, radii [N]."""
        ...


def one_view(rasterise_views: Callable[..., Splats]) -> Callable[..., Any]:
    """`Backend.rasterise` by a function that renders many views; on a GPU, without `threads`."""

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
        """See `Backend`."""
        splats = rasterise_views(
            gaussians, camera, view[None], background, colours, with_depth, screen=screen
        )
        depth_sum = None if splats.depth_sums is None else splats.depth_sums[0]
        return splats.images[0], splats.alphas[0], depth_sum, splats.radii[0]

    return rasterise
