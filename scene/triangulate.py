"""Points of the scene from the images alone: keypoints matched at the given poses, triangulated.

Structure from motion without the motion. Where a capture has neither a plain background nor points
of its own, these say where the surfaces are (Hartley and Zisserman 2004, chapters 9 and 12).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .camera import Camera
from .capture import PointCloud
from .keypoints import Keypoints, find_keypoints, one_opencv_thread

_PER_VIEW = 4000  # keypoints of a view, at most
_PARTNERS = 8  # views that a view is matched with
_APART = np.radians((2.0, 40.0))  # between the optical axes of two views, or steps of both
_NEAR_LINE = 1.5  # pixels of an image of 400, from the epipolar line
_RATIO = 0.85  # of the distances to the nearest descriptor and to the next (Lowe 2004)
_ELSEWHERE = 3.0  # pixels of an image of 400: a next one nearer than that shows the same place
_TOLERATED = 1.5  # pixels of an image of 400, between a point and its keypoints
_PARALLAX = np.radians(1.5)  # between the outermost rays to a point, at least
_LENGTH_SQUARED = 512.0**2  # of a descriptor


class _Rays(NamedTuple):
    """Where keypoints of all views look, and to which point each belongs."""

    origins: NDArray[np.float64]  # [R, 3]
    directions: NDArray[np.float64]  # [R, 3], unit length
    views: NDArray[np.int64]  # [R]
    pixels: NDArray[np.float64]  # [R, 2]
    points: NDArray[np.int64]  # [R]

    def kept(self, chosen: NDArray[np.bool_]) -> "_Rays":
        """Some of the rays, the points that have two or more of them numbered anew."""
        points = self.points[chosen]
        counts = np.bincount(points, minlength=1)
        left = np.flatnonzero(chosen)[counts[points] >= 2]
        _, numbers = np.unique(self.points[left], return_inverse=True)
        return _Rays(
            self.origins[left], self.directions[left], self.views[left], self.pixels[left],
            numbers.astype(np.int64),
        )  # fmt: skip


def triangulated_points(
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # uint8 [3, H, W] each, as the cameras see them
    threads: int = 1,
) -> PointCloud:
    """Points on which keypoints of two or more views agree; none where nothing matches.

    Every view is matched with the nearest others by direction, within epipolar bands. Matches are
    joined to tracks, and a track's point must lie within 1.5 pixels (of an image of 400) of all
    its keypoints.
    """
    with one_opencv_thread(), ThreadPoolExecutor(max(1, threads)) as pool:
        found = list(
            pool.map(lambda i: find_keypoints(i.float().div(255), _PER_VIEW, True), images)
        )
        pairs = _partners(cameras)
        matched = list(
            pool.map(lambda p: _matches(cameras[p[0]], found[p[0]], cameras[p[1]], found[p[1]]),
                     pairs)
        )  # fmt: skip
    rays = _tracks(cameras, found, pairs, matched)
    points = np.zeros((0, 3))
    for _ in range(2):  # the second time without the keypoints that did not fit
        points = _nearest_to_rays(rays)
        rays = rays.kept(_fits(rays, points, cameras))
    points = _nearest_to_rays(rays)
    sure = _fits_everywhere(rays, points, cameras) & (_parallaxes(rays, points) >= _PARALLAX)
    colours = _colours(rays, images, len(points))
    return PointCloud(
        torch.from_numpy(points[sure]).float(), torch.from_numpy(colours[sure]).float()
    )


def _partners(cameras: Sequence[Camera]) -> list[tuple[int, int]]:
    """Pairs of views (lower number first) whose images are to be matched.

    Views from the same direction may stand apart, so the angle is that between the directions to
    where all look, as far as the cameras stand from one another at their mean distance.
    """
    axes = torch.stack([camera.world_to_camera[2, :3] for camera in cameras]).numpy()
    centres = torch.stack([camera.centre for camera in cameras]).numpy()
    spread = np.linalg.norm(centres - centres.mean(0), axis=1).mean()
    turned = np.arccos(np.clip(axes @ axes.T, -1, 1))
    moved = np.linalg.norm(centres[:, None] - centres[None], axis=2) / max(spread, 1e-12)
    angles = np.maximum(turned, moved)
    angles[(angles < _APART[0]) | (moved < _APART[0]) | (turned > _APART[1])] = np.inf
    pairs = set()
    for view, row in enumerate(angles):
        for other in np.argsort(row, kind="stable")[:_PARTNERS]:
            if np.isfinite(row[other]):
                pairs.add((min(view, int(other)), max(view, int(other))))
    return sorted(pairs)


def _matches(
    camera: Camera, keypoints: Keypoints, other: Camera, others: Keypoints
) -> NDArray[np.int64]:
    """Numbers of keypoints that look alike on each other's epipolar lines, [P, 2]."""
    if not len(keypoints.pixels) or not len(others.pixels):
        return np.zeros((0, 2), dtype=np.int64)
    scale = max(camera.width, camera.height) / 400
    alike = keypoints.descriptors.float() @ others.descriptors.float().T  # [M, N]
    off_line = _line_distances(camera, keypoints.pixels, other, others.pixels) > _NEAR_LINE * scale
    alike[off_line] = 0.0
    forward = _distinct(alike, others.pixels.numpy(), _ELSEWHERE * scale)
    backward = _distinct(alike.T, keypoints.pixels.numpy(), _ELSEWHERE * scale)
    mutual = np.flatnonzero((forward >= 0) & (backward[forward] == np.arange(len(forward))))
    return np.stack([mutual, forward[mutual]], axis=1)


def _line_distances(camera: Camera, pixels: Tensor, other: Camera, others: Tensor) -> Tensor:
    """Distance of keypoints [N, 2] of the other image from the lines of those [M, 2], [M, N]."""
    turn = other.world_to_camera @ torch.linalg.inv(camera.world_to_camera)
    x, y, z = turn[:3, 3].tolist()
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    essential = cross @ turn[:3, :3]
    fundamental = other.intrinsics.inverse().T @ essential @ camera.intrinsics.inverse()
    ones = torch.ones(len(pixels), 1, dtype=torch.float64)
    lines = torch.cat([pixels, ones], dim=1) @ fundamental.T  # [M, 3]
    lines = (lines / lines[:, :2].norm(dim=1, keepdim=True).clamp_min(1e-12)).float()
    return (lines[:, :2] @ others.float().T + lines[:, 2:]).abs()


def _distinct(alike: Tensor, places: NDArray[np.float64], elsewhere: float) -> NDArray[np.int64]:
    """For each row the column that is alike by far, [M]; -1 without one.

    The next best must be worse by the ratio, unless it lies at about the same place.
    """
    values, columns = alike.topk(min(3, alike.shape[1]), dim=1)
    best = columns[:, 0].numpy()
    distances = (2 * (1 - values / _LENGTH_SQUARED).clamp_min(0)).sqrt().numpy()
    is_distinct = values[:, 0].numpy() > 0
    for following in range(1, columns.shape[1]):
        apart = np.linalg.norm(places[columns[:, following].numpy()] - places[best], axis=1)
        near = distances[:, 0] < _RATIO * distances[:, following]
        is_distinct &= near | (apart < elsewhere)
    return np.where(is_distinct, best, -1)


def _tracks(
    cameras: Sequence[Camera], found: Sequence[Keypoints], pairs: Sequence[tuple[int, int]],
    matched: Sequence[NDArray[np.int64]],
) -> _Rays:  # fmt: skip
    """Matches joined over all views; those that join two keypoints of one view are left out."""
    firsts = np.cumsum([0, *(len(keypoints.pixels) for keypoints in found)])
    rows = [firsts[[a, b]] + matches for (a, b), matches in zip(pairs, matched, strict=True)]
    edges = np.concatenate([np.zeros((0, 2), dtype=np.int64), *rows])
    total = int(firsts[-1])
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(total, total))
    _, tracks = connected_components(graph, directed=False)
    views = np.repeat(np.arange(len(found)), np.diff(firsts))
    _, where, counts = np.unique(
        tracks * np.int64(len(found)) + views, return_inverse=True, return_counts=True
    )
    is_double = np.zeros(total, dtype=bool)
    is_double[tracks[counts[where] > 1]] = True
    pixels = torch.cat([keypoints.pixels for keypoints in found]).numpy()
    directions, origins = np.zeros((total, 3)), np.zeros((total, 3))
    for camera, (first, last) in zip(cameras, pairwise(firsts), strict=True):
        local = (pixels[first:last] - (camera.cx, camera.cy)) / (camera.fx, camera.fy)
        local = np.concatenate([local, np.ones((last - first, 1))], axis=1)
        directions[first:last] = local @ camera.world_to_camera[:3, :3].numpy()
        origins[first:last] = camera.centre.numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    every = _Rays(origins, directions, views, pixels, tracks.astype(np.int64))
    return every.kept(~is_double[tracks])


def _nearest_to_rays(rays: _Rays) -> NDArray[np.float64]:
    """The point nearest to the rays of each track, [P, 3]."""
    count = int(rays.points.max(initial=-1)) + 1
    across = np.eye(3) - rays.directions[:, :, None] * rays.directions[:, None, :]  # [R, 3, 3]
    system, right = np.zeros((count, 3, 3)), np.zeros((count, 3))
    np.add.at(system, rays.points, across)
    np.add.at(right, rays.points, (across @ rays.origins[:, :, None])[:, :, 0])
    system += 1e-12 * np.eye(3)  # parallel rays: somewhere far away, which fits nothing
    return np.asarray(np.linalg.solve(system, right[:, :, None])[:, :, 0], np.float64)


def _fits(rays: _Rays, points: NDArray[np.float64], cameras: Sequence[Camera]) -> NDArray[np.bool_]:
    """Which rays have their point before the camera and within the tolerance, [R]."""
    fitting = np.zeros(len(rays.points), dtype=bool)
    for view, camera in enumerate(cameras):
        mine = np.flatnonzero(rays.views == view)
        column, row, depth = camera.project(torch.from_numpy(points[rays.points[mine]]))
        apart = np.hypot(column.numpy() - rays.pixels[mine, 0], row.numpy() - rays.pixels[mine, 1])
        tolerated = _TOLERATED * max(camera.width, camera.height) / 400
        fitting[mine] = (depth.numpy() > 0) & (apart < tolerated)
    return fitting


def _fits_everywhere(
    rays: _Rays, points: NDArray[np.float64], cameras: Sequence[Camera]
) -> NDArray[np.bool_]:
    """Which points fit all of their rays, [P]."""
    fitting = np.ones(len(points), dtype=bool)
    fitting[rays.points[~_fits(rays, points, cameras)]] = False
    return fitting


def _parallaxes(rays: _Rays, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the largest angle between a ray to each point and their mean, [P] radians."""
    mean = np.zeros((len(points), 3))
    np.add.at(mean, rays.points, rays.directions)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    cosines = np.einsum("ij,ij->i", rays.directions, mean[rays.points])
    widest = np.zeros(len(points))
    np.maximum.at(widest, rays.points, 2 * np.arccos(np.clip(cosines, -1, 1)))
    return widest


def _colours(rays: _Rays, images: Sequence[Tensor], count: int) -> NDArray[np.float64]:
    """Mean colour of the keypoints of each point, [P, 3] in 0..1."""
    total = np.zeros((count, 3))
    for view, image in enumerate(images):
        mine = np.flatnonzero(rays.views == view)
        column, row = rays.pixels[mine].astype(np.int64).T
        height, width = image.shape[1:]
        pixels = image.numpy()[:, row.clip(0, height - 1), column.clip(0, width - 1)]
        np.add.at(total, rays.points[mine], pixels.T / 255)
    return total / np.maximum(np.bincount(rays.points, minlength=count), 1)[:, None]
