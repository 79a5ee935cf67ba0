"""Photographs that have a place, undistorted, in a frame of 4 units about what they show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scene import Camera, InputError, common_point

from .geometry import Array, Plane, Similarity, ground_plane
from .isolate import sphere_radius
from .photographs import Photograph
from .sfm import SparseModel
from .undistort import Pinhole, pinhole_of

_ROUNDS, _SPREADS = 10, 3.0  # of leaving out cameras that look elsewhere, times the median
_FARTHEST = 5.0  # times the usual distance from the object, or a fifth: placed wrongly
_WIDEST_MISS = 0.8  # radians from a camera's axis to the object: placed wrongly
_DISTANCE = 4.0  # units from the cameras to what they look at
_PLANE_TOLERANCE = 0.01  # of the sphere's radius
_PLANE_RADIUS = 1.6  # times the sphere's radius, within which points of the ground are looked for


@dataclass(frozen=True)
class Posed:
    """The photographs that have a place, and the sparse points of what they show."""

    names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    pinholes: tuple[Pinhole, ...]
    paths: tuple[Path, ...]  # of the undistorted photographs
    focus: Array  # [3], what the cameras look at
    radius: float  # of the sphere that they show
    points: Array  # [M, 3]
    colours: NDArray[np.uint8]  # [M, 3]

    @property
    def centres(self) -> Array:
        """Of the cameras, [V, 3]."""
        return np.stack([camera.centre.numpy() for camera in self.cameras])


def subset(posed: Posed, names: Sequence[str]) -> Posed:
    """The same with some of its photographs."""
    chosen = [posed.names.index(name) for name in names]
    return replace(
        posed, names=tuple(names), cameras=tuple(posed.cameras[i] for i in chosen),
        pinholes=tuple(posed.pinholes[i] for i in chosen),
        paths=tuple(posed.paths[i] for i in chosen),
    )  # fmt: skip


def focus_of(cameras: Sequence[Camera]) -> Array:
    """The point [3] that most of the cameras look at.

    The one nearest to all optical axes, again without those that pass it at a distance.

    Raises:
        InputError: all look in one direction.
    """
    kept, focus = list(cameras), np.zeros(3)
    for _ in range(_ROUNDS):
        point = common_point(kept)
        if point is None:
            raise InputError(
                "All photographs look in one direction, so only one side of the object is seen: "
                "walk all around it, in two or three rings, and take some from above."
            )
        focus = point.numpy()
        misses = np.array([_miss(camera, focus) for camera in cameras])
        limit = _SPREADS * max(float(np.median(misses)), 1e-9)
        fitting = [camera for camera, miss in zip(cameras, misses, strict=True) if miss <= limit]
        if len(fitting) == len(kept):
            break
        kept = fitting
    return focus


def without_misplaced(model: SparseModel) -> SparseModel:
    """The model without photographs whose place makes no sense: far off, or looking elsewhere."""
    lens = next(iter(model.lenses.values()))
    plain = pinhole_of(lens)
    cameras = {name: plain.camera(pose) for name, pose in model.poses.items()}
    focus = focus_of(list(cameras.values()))
    away = {n: float(np.linalg.norm(c.centre.numpy() - focus)) for n, c in cameras.items()}
    usual = float(np.median(list(away.values())))
    poses = {
        name: pose
        for name, pose in model.poses.items()
        if usual / _FARTHEST < away[name] < usual * _FARTHEST
        and _miss(cameras[name], focus) < _WIDEST_MISS
    }
    return replace(model, poses=poses)


def _miss(camera: Camera, point: Array) -> float:
    """Angle between a camera's axis and the way to a point, radians."""
    way = point - camera.centre.numpy()
    cosine = float(camera.world_to_camera[2, :3].numpy() @ way) / max(
        float(np.linalg.norm(way)), 1e-12
    )
    return float(np.arccos(np.clip(cosine, -1, 1)))


def place(photographs: Sequence[Photograph], model: SparseModel, folder: Path) -> Posed:
    """The photographs of a sparse model; `folder` is where the undistorted ones lie.

    Raises:
        InputError: all look in one direction.
    """
    placed = [one for one in photographs if one.name in model.poses]
    pinholes = {camera: pinhole_of(lens) for camera, lens in model.lenses.items()}
    paths = tuple(folder / f"{one.name}.png" for one in placed)
    each = tuple(pinholes[one.camera] for one in placed)
    cameras = [p.camera(model.poses[one.name]) for p, one in zip(each, placed, strict=True)]
    focus = focus_of(cameras)
    distance = float(np.median([np.linalg.norm(c.centre.numpy() - focus) for c in cameras]))
    scale = _DISTANCE / distance
    frame = Similarity(scale, np.eye(3), -scale * focus)
    cameras = [c.at(torch.from_numpy(frame.pose(c.world_to_camera.numpy()))) for c in cameras]
    origin = np.zeros(3)
    return Posed(
        tuple(one.name for one in placed), tuple(cameras), each, paths, origin,
        sphere_radius(cameras, origin), frame.points(model.points), model.colours,
    )  # fmt: skip


def ground(posed: Posed) -> tuple[Array, Plane | None]:
    """Roughly up [3], and the plane that the object stands on, where one is found."""
    up = -np.mean([camera.world_to_camera[1, :3].numpy() for camera in posed.cameras], axis=0)
    up /= np.linalg.norm(up)
    near = np.linalg.norm(posed.points - posed.focus, axis=1) < _PLANE_RADIUS * posed.radius
    plane = ground_plane(
        posed.points[near], posed.centres, up, posed.focus, _PLANE_TOLERANCE * posed.radius
    )
    return (up if plane is None else plane.normal), plane
