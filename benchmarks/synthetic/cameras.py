"""Camera poses: looking at the object, in the axes of transforms.json, with errors."""

import math

import numpy as np
from numpy.typing import NDArray

ANGLE = 0.6911111611634243  # horizontal field of view, radians

Pose = NDArray[np.float64]  # [4, 4]


def looking(
    direction: NDArray[np.float64],
    distances: tuple[float, float],
    roll: float,
    random: np.random.Generator,
) -> Pose:
    """World-to-camera that looks at the origin from a unit vector `direction` [3], z upwards.

    Args:
        distances: Least and largest distance, world units.
        roll: Largest turn about the line of sight, degrees.
    """
    centre = random.uniform(*distances) * direction
    right = np.cross(-direction, [0.0, 0.0, 1.0])
    length = float(np.linalg.norm(right))
    right = right / length if length > 1e-6 else np.array([1.0, 0.0, 0.0])
    turn = math.radians(random.uniform(-roll, roll))
    upright = np.stack([right, np.cross(-direction, right), -direction])
    pose = np.eye(4)
    pose[:3, :3] = rotation(np.array([0.0, 0.0, turn])) @ upright
    pose[:3, 3] = -pose[:3, :3] @ centre
    return pose


def opengl(world_to_camera: Pose) -> Pose:
    """Camera-to-world with OpenGL axes, as transforms.json has it."""
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    return np.asarray(np.linalg.inv(world_to_camera) @ flip, np.float64)


def noisy(camera_to_world: Pose, random: np.random.Generator, degrees: float, units: float) -> Pose:
    """A pose with errors: a turn about the camera's centre, and a shift of that centre.

    Args:
        degrees: Standard deviation of the turn about each axis.
        units: Standard deviation of the shift along each axis, world units.
    """
    pose = camera_to_world.copy()
    turn = random.normal(scale=math.radians(degrees), size=3)
    pose[:3, :3] = pose[:3, :3] @ rotation(turn)
    pose[:3, 3] += random.normal(scale=units, size=3)
    return pose


def rotation(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation [3, 3] about a vector, by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
