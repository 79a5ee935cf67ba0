"""The visual hull: the space that the silhouettes allow, carved from coarse to fine.

A voxel stays while (nearly) every view that has it in its frame sees it within the silhouette.
Whether a whole voxel misses a silhouette is decided by one look-up: the distance from its projected
centre to the silhouette, against its projected radius.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .camera import Camera
from .errors import InputError
from .world import common_point, parallel_cameras

_LOCATING_CELLS = 32  # per side of the grids that only find where the object is
_LEVELS = 3  # the finest voxels and twice and four times their size
_STEPS_PER_PIXEL = 16  # distances to the silhouette's edge are kept as 16-bit integers
_FARTHEST = 32_000  # steps
_LARGEST_FILLED_HOLE = 0.02  # of the silhouette: background-coloured specks on the object
_VIEWS_BETWEEN_CULLS = 16  # of voxels that are lost already
_SMALLEST_SHARE_OF_VIEWS = 0.25  # that must have a voxel in their frame
_OCTANTS = torch.cartesian_prod(*(torch.arange(2),) * 3)  # [8, 3]


@dataclass(frozen=True)
class VisualHull:
    """An occupancy grid around the object."""

    occupied: Tensor  # [X, Y, Z] bool
    origin: Tensor  # [3] float64, world position of the corner of voxel (0, 0, 0)
    voxel: float  # edge length, world units

    def surface_points(self) -> Tensor:
        """Centres of the occupied voxels that have a free neighbour, [M, 3] float32."""
        inner = self.occupied.clone()
        for axis in range(3):
            for step in (1, -1):
                inner &= _shifted(self.occupied, axis, step)
        return (self.origin + ((self.occupied & ~inner).nonzero() + 0.5) * self.voxel).float()


def visual_hull(
    cameras: Sequence[Camera],
    silhouettes: Sequence[Tensor],  # [H, W] bool each, of the cameras' sizes
    resolution: int = 112,
    tolerated: float = 0.04,
) -> VisualHull:
    """Carves the space that the cameras have in common.

    Args:
        cameras: known poses around the object.
        silhouettes: true on the object. Small enclosed holes are filled first.
        resolution: voxels along the longest side of the object.
        tolerated: share of the views, of those that see a voxel, whose silhouette may miss it.

    Raises:
        InputError: the cameras do not look at a common point, or nothing is left.
        ValueError: not one silhouette per camera, of its size.
    """
    if len(cameras) != len(silhouettes):
        raise ValueError(f"{len(cameras)} cameras but {len(silhouettes)} silhouettes")
    for camera, outline in zip(cameras, silhouettes, strict=True):
        if outline.shape != (camera.height, camera.width):
            raise ValueError(f"a silhouette is {tuple(outline.shape)}, not of its camera's size")
    votes = _Votes(cameras, silhouettes, tolerated)
    low, high = _locate(votes, *_common_volume(cameras))
    voxel = float((high - low).max()) / resolution
    coarse = voxel * 2 ** (_LEVELS - 1)
    shape = ((high - low) / coarse).ceil().long().clamp(min=1)
    occupied = torch.zeros(*(shape * 2 ** (_LEVELS - 1)).tolist(), dtype=torch.bool)
    cells = torch.cartesian_prod(*(torch.arange(int(n)) for n in shape))  # [C, 3]
    for level in reversed(range(_LEVELS)):
        size = voxel * 2**level
        allowed, settled = votes.count(low + (cells + 0.5) * size, size, whole=level > 0)
        _fill(occupied, cells[allowed & settled], 2**level)
        cells = (2 * cells[allowed & ~settled][:, None] + _OCTANTS).reshape(-1, 3)
    if not occupied.any():
        raise _nothing_left()
    return VisualHull(occupied, low, voxel)


def outside_hull(hull: VisualHull, points: Tensor, margin: int = 2) -> Tensor:
    """Which points [N, 3] lie outside of the hull dilated by `margin` voxels, [N] bool."""
    near = _dilated(torch.nn.functional.pad(hull.occupied, [margin] * 6), margin)
    where = points.detach().to("cpu", torch.float64)
    cells = ((where - hull.origin) / hull.voxel).floor().long() + margin
    shape = torch.tensor(near.shape)
    in_grid = ((cells >= 0) & (cells < shape)).all(dim=1)
    x, y, z = cells.clamp(min=0).minimum(shape - 1).unbind(1)
    return ~(in_grid & near[x, y, z]).to(points.device)


class _Votes:
    """Silhouettes as distance look-ups, and the vote over them."""

    def __init__(
        self, cameras: Sequence[Camera], silhouettes: Sequence[Tensor], tolerated: float
    ) -> None:
        self.cameras = cameras
        self.tolerated = tolerated
        far_apart = np.random.default_rng(0).permutation(len(cameras))  # neighbours agree anyway
        self.order = [int(view) for view in far_apart]
        self.distances = [torch.from_numpy(_distances(s.cpu().numpy())) for s in silhouettes]

    def count(self, centres: Tensor, size: float, whole: bool) -> tuple[Tensor, Tensor]:
        """(may belong to the object, needs no finer voxels) for every voxel, [C] bool each.

        With `whole`, a voxel counts as missed only when its bounding sphere misses the silhouette,
        and is settled when nearly all views have that sphere within it; otherwise its centre
        decides at once.
        """
        radius = size * 3**0.5 / 2 if whole else 0.0
        lost = self.tolerated * len(self.cameras)  # missed more often than this: cannot recover
        rows = torch.arange(len(centres))
        places = centres.float()
        seen, missed, cut = (torch.zeros_like(rows) for _ in range(3))
        for turn, view in enumerate(self.order):
            in_frame, is_missed, is_cut = self._vote(view, places, radius)
            seen += in_frame
            missed += is_missed
            cut += is_cut
            if turn % _VIEWS_BETWEEN_CULLS == _VIEWS_BETWEEN_CULLS - 1:
                kept = (missed <= lost).nonzero()[:, 0]
                rows, places = rows[kept], places[kept]
                seen, missed, cut = seen[kept], missed[kept], cut[kept]
        enough = max(1, round(_SMALLEST_SHARE_OF_VIEWS * len(self.cameras)))
        allowed, settled = (torch.zeros(len(centres), dtype=torch.bool) for _ in range(2))
        allowed[rows] = (seen >= enough) & (missed <= self.tolerated * seen)
        settled[rows] = (cut <= self.tolerated * seen) if whole else True
        return allowed, settled

    def _vote(self, view: int, places: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor]:
        """(in the frame, there but off the silhouette, there but not within it), [C] bool each."""
        camera, distances = self.cameras[view], self.distances[view]
        column, row, depth = camera.project(places)
        in_frame = (depth > 0) & (column >= 0) & (column < camera.width)
        in_frame &= (row >= 0) & (row < camera.height)
        pixel = row.long() * camera.width + column.long()
        steps = distances[pixel.clamp_(0, len(distances) - 1)]
        # one pixel of slack: the look-up is at the pixel's centre, and edges are blended
        reach = (radius * max(camera.fx, camera.fy) / depth + 1.0) * _STEPS_PER_PIXEL
        return in_frame, in_frame & (steps > reach), in_frame & (steps > -reach)


def _distances(outline: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Distance of every pixel to the silhouette's edge, negative within, [H * W] steps."""
    import cv2

    background = (~outline).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(background, connectivity=4)
    speck = boxes[:, cv2.CC_STAT_AREA] < _LARGEST_FILLED_HOLE * outline.sum()
    speck[0] = False  # component 0 is the object itself
    if speck.any():
        background[speck[labels]] = 0
    if background.all() or not background.any():  # without an edge, cv2 leaves it undefined
        return np.full(background.size, _FARTHEST if background.all() else -_FARTHEST, np.int16)
    outer, inner = (cv2.distanceTransform(b, cv2.DIST_L2, 3) for b in (background, 1 - background))
    steps = (outer - inner) * _STEPS_PER_PIXEL
    return np.clip(steps, -_FARTHEST, _FARTHEST).astype(np.int16).reshape(-1)


def _common_volume(cameras: Sequence[Camera]) -> tuple[Tensor, Tensor]:
    """A box [3], [3] (low, high) around the point nearest to all optical axes.

    It reaches as far as the widest frame does at that point's depth.
    """
    point = common_point(cameras)
    if point is None:
        raise parallel_cameras()
    centres = torch.stack([camera.centre for camera in cameras])  # [V, 3]
    axes = torch.stack([camera.world_to_camera[2, :3] for camera in cameras])  # [V, 3]
    depths = ((point - centres) * axes).sum(1)
    if (depths <= 0).sum() > len(cameras) // 2:
        raise InputError(
            "Most cameras look away from their common point, not around an object: check the "
            "poses (transform_matrix is camera to world, with OpenGL axes)."
        )
    widest = [0.5 * max(c.width / c.fx, c.height / c.fy) for c in cameras]
    half = (depths.clamp(min=0) * torch.tensor(widest, dtype=torch.float64)).max()
    return point - half, point + half


def _locate(votes: _Votes, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Shrinks a box to what the silhouettes allow; again while it shrinks by much."""
    for _ in range(4):
        longest = float((high - low).max())
        size = longest / _LOCATING_CELLS
        shape = ((high - low) / size).round().long().clamp(min=1)
        cells = torch.cartesian_prod(*(torch.arange(int(n)) for n in shape))
        centres = low + (cells + 0.5) * size
        kept = centres[votes.count(centres, size, whole=True)[0]]
        if not len(kept):
            raise _nothing_left()
        low, high = kept.amin(0) - 0.5 * size, kept.amax(0) + 0.5 * size
        if float((high - low).max()) > 0.6 * longest:
            break
    return low, high


def _nothing_left() -> InputError:
    return InputError(
        "The silhouettes have no point in common: check the camera poses, the focal length and "
        "that the background has one colour."
    )


def _dilated(grid: Tensor, margin: int) -> Tensor:
    """The grid grown by a cube of `margin` voxels to every side, one axis after the other."""
    for axis in range(3):
        grown = grid.clone()
        for step in range(1, margin + 1):
            rest = grid.shape[axis] - step
            grown.narrow(axis, step, rest).logical_or_(grid.narrow(axis, 0, rest))
            grown.narrow(axis, 0, rest).logical_or_(grid.narrow(axis, step, rest))
        grid = grown
    return grid


def _shifted(grid: Tensor, axis: int, step: int) -> Tensor:
    """The grid moved by one voxel; what enters from beyond the border is free."""
    moved = grid.roll(step, dims=axis)
    moved.select(axis, 0 if step == 1 else -1).fill_(False)
    return moved


def _fill(occupied: Tensor, cells: Tensor, width: int) -> None:
    """Marks blocks of `width` voxels a side; `cells` [C, 3] counts in blocks."""
    inside = torch.cartesian_prod(*(torch.arange(width),) * 3)
    x, y, z = (width * cells[:, None] + inside).reshape(-1, 3).unbind(1)
    occupied[x, y, z] = True
