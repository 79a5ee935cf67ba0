"""Where the pictures are taken from, as in the bundled class: all around, nearly upright."""

import math

import numpy as np
from numpy.typing import NDArray

ANGLE = 0.6911111611634243  # horizontal field of view, radians
_TRAIN_DISTANCE, _TRAIN_ROLL = (3.6, 4.1), 8.0  # world units, degrees
_QUERY_DISTANCE, _QUERY_ROLL = (3.65, 4.05), 7.0

Pose = NDArray[np.float64]  # [4, 4]


def train_pose(index: int, count: int, random: np.random.Generator) -> Pose:
    """World-to-camera of one of `count` views that are spread evenly over the sphere."""
    height = 1 - (2 * index + 1) / count
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = math.sqrt(1 - height**2)
    direction = np.array([radius * math.cos(angle), radius * math.sin(angle), height])
    return _looking(direction, _TRAIN_DISTANCE, _TRAIN_ROLL, random)


def query_pose(random: np.random.Generator) -> Pose:
    """World-to-camera of a view from a direction by chance."""
    direction = random.normal(size=3)
    direction /= np.linalg.norm(direction)
    return _looking(direction, _QUERY_DISTANCE, _QUERY_ROLL, random)


def _looking(
    direction: NDArray[np.float64],
    distances: tuple[float, float],
    roll: float,
    random: np.random.Generator,
) -> Pose:
    """Looks at the origin from `direction`, z upwards, turned about the axis by up to `roll`."""
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
