"""The frame that a capture is computed in, where the one of its files suits no computation.

Single precision has seven digits, and 3DGS draws nothing nearer than 0.2 units to the camera: poses
in kilometres, or metres from a far origin, would leave an empty image.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .camera import Camera
from .errors import InputError
from .files import check_numbers

_ORDINARY = (1.0, 40.0)  # units from the cameras to the object: left as they are
_WANTED = 4.0  # else about so many, as in Blender's captures
_FAR = 100.0  # times that distance: an object so far from the origin is moved to it


@dataclass(frozen=True)
class World:
    """Where the model's frame lies in that of the files: x_files = unit * x_model + origin."""

    unit: float = 1.0
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @staticmethod
    def from_json(values: Mapping[str, Any] | None) -> "World":
        """What a model folder keeps; models of older versions keep nothing.

        Raises KeyError, TypeError or ValueError when it is damaged.
        """
        if values is None:
            return World()
        x, y, z = values["origin"]
        check_numbers(
            {"unit": values["unit"], "x": x, "y": y, "z": z},
            {"unit": (1e-30, 1e30), **dict.fromkeys("xyz", (-1e13, 1e13))},
        )
        return World(values["unit"], (x, y, z))

    def into_model(self, world_to_camera: Tensor) -> Tensor:
        """A pose [4, 4] of the files in the model's frame; unchanged where the two are the same."""
        if self == World():
            return world_to_camera
        pose = world_to_camera.clone()
        pose[:3, 3] = (pose[:3, 3] + pose[:3, :3] @ self._origin(pose)) / self.unit
        return pose

    def into_files(self, world_to_camera: Tensor) -> Tensor:
        """The opposite of `into_model`."""
        if self == World():
            return world_to_camera
        pose = world_to_camera.clone()
        pose[:3, 3] = self.unit * pose[:3, 3] - pose[:3, :3] @ self._origin(pose)
        return pose

    def points_into_model(self, points: Tensor) -> Tensor:
        """Points [N, 3] of the files in the model's frame."""
        return (points - self._origin(points)) / self.unit

    def points_into_files(self, points: Tensor) -> Tensor:
        """The opposite of `points_into_model`."""
        return points * self.unit + self._origin(points)

    def _origin(self, like: Tensor) -> Tensor:
        return torch.tensor(self.origin, dtype=like.dtype)


def world_for(cameras: Sequence[Camera]) -> World:
    """The frame to compute in: that of the files, unless the cameras say that it does not suit.

    The unit is a power of two, so that changing it costs no digits.
    """
    point = common_point(cameras)
    if point is None:
        return World()
    distance = float(torch.stack([(c.centre - point).norm() for c in cameras]).median())
    unit = 1.0
    if distance > 0 and not _ORDINARY[0] <= distance <= _ORDINARY[1]:
        unit = 2.0 ** round(math.log2(distance / _WANTED))
    if float(point.norm()) <= _FAR * distance:
        return World(unit)
    x, y, z = point.tolist()
    return World(unit, (x, y, z))


def common_point(cameras: Sequence[Camera]) -> Tensor | None:
    """The point nearest to all optical axes, [3] float64; None where they are about parallel."""
    centres = torch.stack([camera.centre for camera in cameras])  # [V, 3]
    axes = torch.stack([camera.world_to_camera[2, :3] for camera in cameras])  # [V, 3]
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]  # [V, 3, 3]
    system = across.sum(0)
    if torch.linalg.eigvalsh(system)[0] < 1e-4 * len(cameras):
        return None
    return torch.linalg.solve(system, (across @ centres[:, :, None]).sum(0)[:, 0])


def parallel_cameras() -> InputError:
    """What to say where `common_point` is None and needed."""
    return InputError(
        "The cameras look in parallel, so nothing says where the object is: give views from "
        "several sides, or a COLMAP model with its points."
    )
