"""Camera matrices as they stand in files, checked and brought to the one convention inside."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

RIGID_TOLERANCE = 1e-3  # largest deviation of R^T R from identity; six printed digits pass
FARTHEST = 1e12  # units from the origin: beyond, double precision has no thousandth of a unit
_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def opengl_camera_to_world(value: Any, where: str) -> Tensor:
    """A camera-to-world matrix with OpenGL axes (x right, y up, z back) as world_to_camera.

    Args:
        value: nested lists as read from JSON, 4 x 4 (or 3 x 4, as some tools write).
        where: named in the errors, for example "transforms.json, frame train/good/0.png".

    Returns:
        [4, 4] float64, OpenCV axes, rigid to rounding.

    Raises:
        InputError: not a matrix, not finite, or not rigid.
    """
    camera_to_world = _rigid(_matrix(value, where), where) @ _OPENGL_TO_OPENCV
    rotation, centre = camera_to_world[:3, :3], camera_to_world[:3, 3]
    return compose(rotation.T, -rotation.T @ centre)


def checked_pose(value: Any, where: str) -> Tensor:
    """A rigid 4 x 4 matrix of a file of ours, [4, 4] float64, bit by bit as it is stored.

    Raises:
        InputError: not a matrix, not finite, or not rigid.
    """
    matrix = _matrix(value, where)
    _rigid(matrix, where)
    return torch.from_numpy(matrix)


def compose(rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> Tensor:
    """[4, 4] float64 from [3, 3] and [3]."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.from_numpy(np.ascontiguousarray(rotation))
    matrix[:3, 3] = torch.from_numpy(np.ascontiguousarray(translation))
    return matrix


def _matrix(value: Any, where: str) -> NDArray[np.float64]:
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise InputError(f"{where}: transform_matrix is not a 4 x 4 matrix of numbers: correct it.")
    if not np.isfinite(matrix).all():
        raise InputError(
            f"{where}: transform_matrix holds NaN or infinity: correct or remove the frame."
        )
    farthest = np.abs(matrix[:3, 3]).max()
    if farthest > FARTHEST:
        raise InputError(
            f"{where}: it lies {farthest:.3g} units from the origin, farther than the "
            f"{FARTHEST:g} that can be computed with: correct the pose or choose a larger unit."
        )
    if np.abs(matrix[:, :3]).max() > FARTHEST:
        raise InputError(
            f"{where}: transform_matrix is not rigid: export camera poses without scale or shear."
        )
    return matrix if len(matrix) == 4 else np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])


def _rigid(matrix: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """The matrix with its rotation made orthonormal to rounding."""
    rotation = matrix[:3, :3]
    deviation = np.abs(rotation.T @ rotation - np.eye(3)).max()
    last_row = np.abs(matrix[3] - [0, 0, 0, 1]).max()
    if deviation > RIGID_TOLERANCE or last_row > RIGID_TOLERANCE:
        raise InputError(
            f"{where}: transform_matrix is not rigid (its rotation is off by {deviation:.2g}, its "
            f"last row by {last_row:.2g}): export camera poses without scale or shear."
        )
    if np.linalg.det(rotation) < 0:
        raise InputError(
            f"{where}: transform_matrix is a reflection, not a rotation: flip one axis."
        )
    u, _, vt = np.linalg.svd(rotation)
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = u @ vt, matrix[:3, 3]
    return rigid
