"""Points, planes and similarities in space, as the stages need them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scene import Camera

Array = NDArray[np.float64]

_LARGEST_MISS = 3.0  # pixels, of a triangulated point in its photographs
_ROUNDS = 5  # of leaving out what does not fit
_PLANE_TRIALS = 2000


@dataclass(frozen=True)
class Similarity:
    """new = scale * rotation @ old + shift."""

    scale: float
    rotation: Array  # [3, 3]
    shift: Array  # [3]

    def points(self, points: Array) -> Array:
        """Points [N, 3] in the new frame."""
        return self.scale * points @ self.rotation.T + self.shift

    def pose(self, world_to_camera: Array) -> Array:
        """A pose [4, 4] from the new frame, in the new unit."""
        pose = world_to_camera.copy()
        pose[:3, :3] = world_to_camera[:3, :3] @ self.rotation.T
        pose[:3, 3] = self.scale * world_to_camera[:3, 3] - pose[:3, :3] @ self.shift
        return pose

    def then(self, other: "Similarity") -> "Similarity":
        """This one, and the other after it."""
        shift = other.points(self.shift[None])[0]
        return Similarity(self.scale * other.scale, other.rotation @ self.rotation, shift)


@dataclass(frozen=True)
class Plane:
    """normal . point = offset; the object stands on the side that the normal points to."""

    normal: Array  # [3], unit
    offset: float
    spread: float  # robust standard deviation of the points on it
    count: int  # of these points

    def height(self, points: Array) -> Array:
        """Signed distances of points [N, 3], [N]."""
        return points @ self.normal - self.offset


def similarity_between(old: Array, new: Array) -> tuple[Similarity, Array]:
    """The similarity that takes points [N, 3] to others, and the distances left, [N].

    Least squares (Umeyama 1991) over the points that fit: in each round those are left out that
    miss by more than three times the median.
    """
    kept = np.ones(len(old), bool)
    for _ in range(_ROUNDS):
        found = _umeyama(old[kept], new[kept])
        errors = np.linalg.norm(found.points(old) - new, axis=1)
        chosen = errors <= max(3 * float(np.median(errors)), 1e-12)
        if chosen.sum() < 3 or (chosen == kept).all():
            break
        kept = chosen
    return found, errors


def _umeyama(old: Array, new: Array) -> Similarity:
    old_mean, new_mean = old.mean(0), new.mean(0)
    a, b = old - old_mean, new - new_mean
    u, values, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((values * sign).sum() / (a * a).sum())
    return Similarity(scale, rotation, new_mean - scale * rotation @ old_mean)


def triangulate(cameras: Sequence[Camera], pixels: Array) -> Array | None:
    """The point [3] seen at pixels [V, 2]; None where no two views or more agree on one."""
    matrices = np.stack([(c.intrinsics @ c.world_to_camera[:3]).numpy() for c in cameras])
    kept = np.ones(len(cameras), bool)
    for _ in range(_ROUNDS):
        if kept.sum() < 2:
            return None
        p, xy = matrices[kept], pixels[kept]
        rows = np.concatenate([xy[:, :1] * p[:, 2] - p[:, 0], xy[:, 1:] * p[:, 2] - p[:, 1]])
        rows /= np.linalg.norm(rows[:, :3], axis=1, keepdims=True)
        point, *_ = np.linalg.lstsq(rows[:, :3], -rows[:, 3], rcond=None)
        shown = matrices @ np.append(point, 1.0)
        misses = np.linalg.norm(shown[:, :2] / shown[:, 2:] - pixels, axis=1)
        misses[shown[:, 2] <= 0] = np.inf
        if (misses[kept] <= _LARGEST_MISS).all():
            return np.asarray(point, np.float64)
        kept &= misses <= max(_LARGEST_MISS, float(np.median(misses[kept])))
    return None


def ground_plane(
    points: Array,  # [N, 3], around the object
    centres: Array,  # [V, 3], of the cameras
    up: Array,  # [3], roughly
    below: Array,  # [3], a point that lies above the plane
    tolerance: float,  # distance at which a point still lies on the plane
) -> Plane | None:
    """What the object stands on: the plane with most points on it and next to none beneath.

    RANSAC; every point beneath counts against a plane, for nothing is seen through a table. None
    where no plane has a tenth of the points.
    """
    random = np.random.default_rng(0)
    if len(points) < 30:
        return None
    best, best_score = None, 0.0
    for _ in range(_PLANE_TRIALS):
        a, b, c = points[random.choice(len(points), 3, replace=False)]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length < 1e-12:
            continue
        normal /= length * (np.sign(normal @ up) or 1.0)
        offset = float(normal @ a)
        if normal @ up < 0.6 or normal @ below < offset or (centres @ normal < offset).mean() > 0.1:
            continue
        heights = points @ normal - offset
        score = (np.abs(heights) < tolerance).sum() - 2.0 * (heights < -2 * tolerance).sum()
        if score > best_score:
            best, best_score = (normal, offset), score
    if best is None or best_score < 0.1 * len(points):
        return None
    normal, offset = best
    for _ in range(3):
        on = points[np.abs(points @ normal - offset) < tolerance]
        middle = on.mean(0)
        flat = np.linalg.svd(on - middle, full_matrices=False)[2][2]
        normal = flat * np.sign(flat @ up)
        offset = float(normal @ middle)
    heights = on @ normal - offset
    spread = 1.4826 * float(np.median(np.abs(heights - np.median(heights))))
    return Plane(normal, offset, spread, len(on))


def upright(normal: Array) -> Array:
    """A rotation [3, 3] that turns a unit vector into z."""
    helper = np.eye(3)[int(np.abs(normal).argmin())]
    x = np.cross(helper, normal)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(normal, x), normal])
