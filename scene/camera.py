"""A pinhole camera. One convention everywhere: OpenCV axes (x right, y down, z forward)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """Where an image was taken from, and through which lens.

    Pixel (i, j) has its centre at (i + 0.5, j + 0.5), as in 3DGS, gsplat and COLMAP.
    """

    world_to_camera: Tensor  # [4, 4] float64, rigid; or [B, 4, 4], B places of one lens
    fx: float  # focal lengths and principal point, pixels
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def centre(self) -> Tensor:
        """Position of the camera in the world, [3]."""
        rotation, translation = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -rotation.T @ translation

    @property
    def intrinsics(self) -> Tensor:
        """K, [3, 3] float64."""
        return torch.tensor(
            [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]],
            dtype=torch.float64,
        )

    def resized(self, width: int, height: int) -> "Camera":
        """The same camera with an image of another size (pixels)."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=self.cx * sx,
            cy=self.cy * sy,
            width=width,
            height=height,
        )

    def at(self, world_to_camera: Tensor) -> "Camera":
        """The same lens at another place [4, 4], or at B places [B, 4, 4]."""
        return replace(self, world_to_camera=world_to_camera.detach().to("cpu", torch.float64))

    def project(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Column and row (pixels) and depth (world units) of world points [N, 3], each [N].

        In the points' dtype. Where the depth is not positive, column and row mean nothing.
        """
        matrix = (self.intrinsics @ self.world_to_camera[:3].cpu()).to(points.device, points.dtype)
        x, y, depth = (points @ matrix[:, :3].T + matrix[:, 3]).unbind(1)
        safe = depth.clamp(min=1e-6)
        return x / safe, y / safe, depth
