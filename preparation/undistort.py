"""Lens distortion undone: the pinhole camera that shows all that a photograph does."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from scene import Camera

from .sfm import Lens

_BORDER = 64  # points along each side of the frame
_WIDEST = 1.3  # times the photograph, if the undistorted frame would be larger


@dataclass(frozen=True)
class Pinhole:
    """The undistorted camera, and where each of its pixels lies in the photograph."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    columns: NDArray[np.float32]  # [H, W]
    rows: NDArray[np.float32]  # [H, W]
    covered: NDArray[np.bool_]  # [H, W], what the photograph shows

    def image(self, photograph: NDArray[np.uint8], is_mask: bool = False) -> NDArray[np.uint8]:
        """A photograph [h, w, ...] undistorted, [H, W, ...].

        Beyond its border a photograph goes on with its last pixels, a mask with zeros.
        """
        border = cv2.BORDER_CONSTANT if is_mask else cv2.BORDER_REPLICATE
        method = cv2.INTER_LINEAR if is_mask else cv2.INTER_CUBIC
        mapped = cv2.remap(photograph, self.columns, self.rows, method, borderMode=border)
        return np.asarray(mapped, np.uint8)

    def camera(self, world_to_camera: NDArray[np.float64]) -> Camera:
        """At a pose [4, 4]."""
        pose = torch.from_numpy(world_to_camera)
        return Camera(pose, self.fx, self.fy, self.cx, self.cy, self.width, self.height)


def pinhole_of(lens: Lens) -> Pinhole:
    """The pinhole with a lens's focal lengths whose frame holds every pixel of the photograph."""
    matrix = np.array([[lens.fx, 0, lens.cx - 0.5], [0, lens.fy, lens.cy - 0.5], [0, 0, 1]])
    distortion = np.array(lens.distortion)
    x = np.linspace(-0.5, lens.width - 0.5, _BORDER)
    y = np.linspace(-0.5, lens.height - 0.5, _BORDER)
    border = np.concatenate([
        np.stack([x, np.full_like(x, -0.5)], 1), np.stack([x, np.full_like(x, y[-1])], 1),
        np.stack([np.full_like(y, -0.5), y], 1), np.stack([np.full_like(y, x[-1]), y], 1),
    ])  # fmt: skip
    straight = cv2.undistortPoints(border[:, None], matrix, distortion, P=matrix)[:, 0]
    low, high = straight.min(0), straight.max(0)
    excess_x, excess_y = (_WIDEST - 1) / 2 * lens.width, (_WIDEST - 1) / 2 * lens.height
    left, top = max(low[0], -excess_x), max(low[1], -excess_y)
    right, bottom = min(high[0], lens.width + excess_x), min(high[1], lens.height + excess_y)
    width, height = int(np.ceil(right - left)), int(np.ceil(bottom - top))
    shifted = matrix.copy()
    shifted[:2, 2] -= (left + 0.5, top + 0.5)
    columns, rows = cv2.initUndistortRectifyMap(
        matrix, distortion, None, shifted, (width, height), cv2.CV_32FC1
    )
    covered = (columns > -0.5) & (columns < lens.width - 0.5)
    covered &= (rows > -0.5) & (rows < lens.height - 0.5)
    return Pinhole(
        lens.fx, lens.fy, shifted[0, 2] + 0.5, shifted[1, 2] + 0.5, width, height,
        np.asarray(columns, np.float32), np.asarray(rows, np.float32), covered,
    )  # fmt: skip
