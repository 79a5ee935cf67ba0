"""What a renderer gives back, and what every backend must offer."""

from dataclasses import dataclass
from typing import Protocol

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
