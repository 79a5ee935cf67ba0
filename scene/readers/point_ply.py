"""Points of a PLY file, as nerfstudio exports them (`ply_file_path`)."""

from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData

from ..capture import PointCloud
from ..errors import InputError
from .matrices import FARTHEST

_COLOURS = ("red", "green", "blue")


def read_point_ply(path: Path) -> PointCloud | None:
    """x, y, z and red, green, blue (grey without them) of all vertices; None without any.

    Points that lie nowhere are left out.

    Raises:
        InputError: no PLY of points, or damaged.
    """
    try:
        vertices = PlyData.read(str(path))["vertex"].data
        xyz = np.stack([np.asarray(vertices[axis], np.float64) for axis in "xyz"], axis=1)
    except Exception as error:  # a header that lies makes the parser raise whatever it meets
        raise InputError(
            f"{path} is no PLY of points with x, y and z, or is damaged ({error}): export it "
            "again, or remove ply_file_path."
        ) from error
    rgb = np.full_like(xyz, 0.5)
    if set(_COLOURS) <= set(vertices.dtype.names or ()):
        highest = 255.0 if vertices["red"].dtype.kind in "iu" else 1.0
        rgb = np.stack([np.asarray(vertices[name], np.float64) for name in _COLOURS], axis=1)
        rgb /= highest
    kept = (np.abs(xyz) <= FARTHEST).all(axis=1) & (np.abs(rgb - 0.5) <= 0.5).all(axis=1)
    if not kept.any():
        return None
    return PointCloud(torch.from_numpy(xyz[kept]).float(), torch.from_numpy(rgb[kept]).float())
