"""A query at several resolutions."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaussian_renderer import Rendering, render
from scene import Camera, Gaussians


@dataclass(frozen=True)
class Level:
    """A query image at one resolution, with the lens that fits it."""

    camera: Camera  # its pose is not used
    image: Tensor  # [3, H, W], dtype and device of the Gaussians
    shrink: int = 1  # full-resolution pixels along one side of its pixels


@dataclass(frozen=True)
class Renderer:
    """What stays the same while poses are tried."""

    gaussians: Gaussians  # detached
    background: Tensor  # [3]
    backend: str = "auto"
    threads: int = 1

    def with_gaussians(self, gaussians: Gaussians) -> "Renderer":
        """The same renderer of other Gaussians."""
        return replace(self, gaussians=gaussians)

    def at(self, level: Level, world_to_camera: Tensor) -> Rendering:
        """Renders without gradients through the lens of `level` from `world_to_camera` [4, 4]."""
        with torch.no_grad():
            return render(
                self.gaussians,
                level.camera.at(world_to_camera),
                self.background,
                backend=self.backend,
                threads=self.threads,
            )


def level_of(camera: Camera, image: Tensor, shrink: int) -> Level:
    """`image` [3, H, W] averaged over blocks of about `shrink` pixels a side, and its lens."""
    if shrink == 1:
        return Level(camera, image)
    height, width = max(1, round(camera.height / shrink)), max(1, round(camera.width / shrink))
    small = torch.nn.functional.interpolate(image[None], size=(height, width), mode="area")[0]
    return Level(camera.resized(width, height), small.contiguous(), shrink)
