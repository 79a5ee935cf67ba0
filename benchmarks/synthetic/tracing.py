"""Which part every ray meets first, in pinhole cameras and in parallel projections.

Rays are affine in image coordinates, so each part is met in its own frame by a few additions, and
only inside the rectangle that it can cover.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .parts import Part, Placement
from .shapes import Array

Window = tuple[slice, slice]  # rows, columns
_NEAR = 1e-3  # world units


@dataclass(frozen=True)
class RayGrid:
    """One ray per crossing of `ys` and `xs`, evenly spaced camera coordinates.

    Pinhole: from the camera's centre through (x, y, 1). Parallel: from (x, y, 0) along z.
    """

    world_to_camera: NDArray[np.float64]  # [4, 4], OpenCV axes
    xs: Array  # [W]
    ys: Array  # [H]
    parallel: bool = False

    @property
    def centre(self) -> NDArray[np.float64]:
        """Where the camera stands, world frame, [3]."""
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]

    def project(self, points: NDArray[np.floating]) -> tuple[Array, Array, Array]:
        """Image coordinates and depth of world points [3, N], each [N]."""
        pose = self.world_to_camera
        x, y, z = pose[:3, :3] @ points + pose[:3, 3:]
        return (x, y, z) if self.parallel else (x / z, y / z, z)

    def window(self, corners: NDArray[np.float64]) -> Window:
        """Rows and columns that a convex body with these corners [3, 8] can cover."""
        if not self.parallel:
            ahead = (self.world_to_camera[2, :3] @ corners + self.world_to_camera[2, 3]) > _NEAR
            if not ahead.all():  # around or behind the camera
                return (slice(None), slice(None)) if ahead.any() else (slice(0), slice(0))
        x, y, _ = self.project(corners)
        return _span(y, self.ys), _span(x, self.xs)

    def local(self, place: Placement, window: Window) -> tuple[Array, Array]:
        """Origins and directions of the window's rays in a body's frame, [3, H or 1, W or 1]."""
        axes = (place.rotation.T @ self.world_to_camera[:3, :3].T).astype(np.float32)
        start = (place.rotation.T @ (self.centre - place.centre)).astype(np.float32)
        x, y = self.xs[window[1]][None, :], self.ys[window[0]][:, None]
        across, down, ahead, eye = (v[:, None, None] for v in (*axes.T, start))
        if self.parallel:
            return eye + across * x + down * y, ahead
        return eye, across * x + down * y + ahead

    def points(self, rows: NDArray[np.intp], columns: NDArray[np.intp], depth: Array) -> Array:
        """World points [3, N] of rays at a depth."""
        x, y = self.xs[columns], self.ys[rows]
        scale = np.float32(1) if self.parallel else depth
        in_camera = np.stack([x * scale, y * scale, depth])
        rotation = self.world_to_camera[:3, :3].T.astype(np.float32)
        return rotation @ in_camera + self.centre.astype(np.float32)[:, None]


@dataclass(frozen=True)
class Hits:
    """What every ray of a grid meets first."""

    depth: Array  # [H, W], infinite where nothing is met
    part: NDArray[np.int16]  # [H, W], -1 where nothing is met
    cut: NDArray[np.int16]  # [H, W], -1: the part's own surface, else which of its cuts


def pinhole(
    world_to_camera: NDArray[np.float64], angle: float, size: int, samples: int = 1
) -> RayGrid:
    """A square image of `size` pixels, `angle` (radians) wide, samples x samples rays per pixel."""
    edge = np.tan(0.5 * angle)
    steps = (np.arange(size * samples) + 0.5) / (size * samples) * 2 - 1
    grid = (steps * edge).astype(np.float32)
    return RayGrid(world_to_camera, grid, grid)


def trace(parts: Sequence[Part], rays: RayGrid) -> Hits:
    """Meets all parts with all rays."""
    shape = len(rays.ys), len(rays.xs)
    hits = Hits(
        np.full(shape, np.inf, np.float32),
        np.full(shape, -1, np.int16),
        np.full(shape, -1, np.int16),
    )
    for index, part in enumerate(parts):
        _meet(part, index, rays, hits)
    return hits


def _meet(part: Part, index: int, rays: RayGrid, hits: Hits) -> None:
    """Enters one part into the hits."""
    window = rays.window(part.corners())
    depth = hits.depth[window]
    if depth.size == 0:
        return
    near, far = part.shape.interval(*rays.local(part.place, window))
    near, cut = _skip_cuts(part, near, rays, window)
    met = (near < far) & (near < depth) & (near > 0)
    np.copyto(depth, near, where=met)
    hits.part[window][met] = index
    hits.cut[window][met] = -1 if cut is None else cut[met]


def _skip_cuts(
    part: Part, near: Array, rays: RayGrid, window: Window
) -> tuple[Array, NDArray[np.int16] | None]:
    """Moves the points of entry out of everything that was cut away."""
    if not part.cuts:
        return near, None
    which = np.full(near.shape, -1, np.int16)
    spans = [cut.shape.interval(*rays.local(cut.place, window)) for cut in part.cuts]
    for _ in range(min(2, len(spans))):  # twice: two cuts may meet
        for index, (enter, leave) in enumerate(spans):
            inside = (near >= enter - np.float32(1e-5)) & (near < leave)
            near = np.where(inside, leave, near)
            which[inside] = index
    return near, which


def _span(values: Array, grid: Array) -> slice:
    step = float(grid[1] - grid[0])
    first = int(np.floor((float(values.min()) - float(grid[0])) / step))
    last = int(np.ceil((float(values.max()) - float(grid[0])) / step)) + 1
    return slice(min(max(first, 0), len(grid)), min(max(last, 0), len(grid)))
