"""The first Gaussians: points, their colours, and the sizes and opacities that 3DGS starts from."""

import importlib
import importlib.util
import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from .camera import Camera
from .capture import Capture, PointCloud
from .gaussians import SH_CONSTANT, Gaussians
from .hull import VisualHull, visual_hull
from .images import TrainImages
from .world import common_point, parallel_cameras

_NEIGHBOURS = 3  # as in 3DGS; fixed in simple-knn
_SMALLEST_SQUARED_DISTANCE = 1e-7  # as in 3DGS, for points that coincide
_FEWEST_MATCHED = 200  # points by matching: with fewer, a random start covers more
_SAME_SURFACE = 2.0  # a point this many spacings behind the nearest one still counts as in front
_log = logging.getLogger(__name__)


def starting_hull(
    capture: Capture, cameras: Sequence[Camera], images: TrainImages
) -> VisualHull | None:
    """The visual hull; None without a plain background.

    None as well where nothing says where the object is but the capture's own points.

    Raises:
        InputError: as `visual_hull`.
    """
    if images.silhouettes is None:
        return None
    if capture.points is not None and common_point(cameras) is None:
        return None
    return visual_hull(cameras, images.silhouettes)


def starting_points(
    capture: Capture,
    cameras: Sequence[Camera],
    images: TrainImages,
    hull: VisualHull | None,
    cap: int | None = None,  # on the Gaussians
    random_count: int = 100_000,
    seed: int = 0,
    may_match: bool = False,  # whether points may be triangulated
    threads: int = 1,
) -> PointCloud:
    """Points of the hull, else the capture's own (COLMAP), else matched ones, else random ones.

    Matched ones are triangulated from the images' keypoints (`triangulated_points`); random ones
    are those of 3DGS. The cap binds all of them.

    Raises:
        InputError: random points are needed, and the cameras look in parallel.
    """
    if hull is not None:
        points = _thinned(hull.surface_points(), cap, seed)
        return PointCloud(points, point_colours(points, cameras, images.colours))
    if capture.points is not None:
        return _thinned_cloud(capture.points, cap, seed)
    if may_match:
        from .triangulate import triangulated_points  # OpenCV takes 0.3 s to import

        cloud = triangulated_points(cameras, images.colours, threads)
        if len(cloud.xyz) >= _FEWEST_MATCHED:
            _log.info("started from %d points that several views agree on", len(cloud.xyz))
            return _thinned_cloud(cloud, cap, seed)
        _log.warning(
            "the views agree on %d points only, so training starts at random: check the input "
            "poses, and that the images are sharp and overlap", len(cloud.xyz),
        )  # fmt: skip
    centre, half_size = _common_cube(cameras)
    count = random_count if cap is None else max(2, min(random_count, cap // 2))
    return random_points(count, half_size, seed, centre)


def scene_extent(cameras: Sequence[Camera]) -> float:
    """1.1 times the largest distance of a camera centre from their mean, world units (3DGS)."""
    centres = torch.stack([camera.centre for camera in cameras])
    return 1.1 * float((centres - centres.mean(0)).norm(dim=1).max())


def random_points(
    count: int = 100_000,
    extent: float = 1.3,
    seed: int = 0,
    centre: Sequence[float] = (0.0, 0.0, 0.0),
) -> PointCloud:
    """The random start of 3DGS: uniform in a cube of half-size `extent`, colours about mid-grey."""
    generator = torch.Generator().manual_seed(seed)
    xyz = (2 * torch.rand(count, 3, generator=generator) - 1) * extent + torch.tensor(centre)
    coefficients = torch.rand(count, 3, generator=generator) / 255
    return PointCloud(xyz, 0.5 + SH_CONSTANT * coefficients)


def initial_gaussians(
    points: Tensor,  # [N, 3]
    colours: Tensor,  # [N, 3], 0..1
    sh_degree: int = 0,
    opacity: float = 0.1,
    device: torch.device | str = "cpu",  # where the neighbours are looked for
) -> Gaussians:
    """Round Gaussians, on the CPU, as large as the distance to their three nearest neighbours.

    Raises:
        ValueError: fewer than two points, or not one colour per point.
    """
    if len(points) < 2 or colours.shape != points.shape:
        raise ValueError(f"{tuple(points.shape)} points and {tuple(colours.shape)} colours")
    squared = mean_squared_distances(points, device)  # [N]
    log_scales = 0.5 * squared.clamp(min=_SMALLEST_SQUARED_DISTANCE).log()
    sh = torch.zeros(len(points), (sh_degree + 1) ** 2, 3)
    sh[:, 0] = (colours.float() - 0.5) / SH_CONSTANT
    return Gaussians(
        means=points.detach().float().clone(),
        log_scales=log_scales[:, None].repeat(1, 3),
        quaternions=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(points), 1),
        opacity_logits=torch.full((len(points),), math.log(opacity / (1 - opacity))),
        sh=sh,
    )


def point_colours(
    points: Tensor,  # [N, 3], a surface
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # uint8 [3, H, W] each
) -> Tensor:
    """The mean colour of every point over the views that see it unoccluded, [N, 3] in 0..1.

    A view sees a point that has no other point clearly in front of it, at the scale of the points'
    spacing. Points that no view sees take the colour of the nearest one that is seen, or mid-grey.

    Raises:
        ValueError: fewer than two points.
    """
    if len(points) < 2:
        raise ValueError("at least two points are needed")
    points = points.detach().to("cpu", torch.float32)
    spacing = float(_nearest_distances(points).median())
    total, count = torch.zeros(len(points), 3), torch.zeros(len(points))
    for camera, image in zip(cameras, images, strict=True):
        column, row, depth = camera.project(points)
        inside = (depth > 0) & (column >= 0) & (column < camera.width)
        inside &= (row >= 0) & (row < camera.height)
        index = inside.nonzero()[:, 0]
        column, row, depth = column[index], row[index], depth[index]
        front = _in_front(column, row, depth, camera, spacing)
        index, pixel = index[front], (row.long() * camera.width + column.long())[front]
        total[index] += image.reshape(3, -1)[:, pixel].T.float().div_(255)
        count[index] += 1
    seen = count > 0
    colours = total / count.clamp(min=1)[:, None]
    if not seen.any():
        return torch.full_like(colours, 0.5)
    if not seen.all():
        _, nearest = cKDTree(points[seen].numpy()).query(points[~seen].numpy())
        colours[~seen] = colours[seen][torch.from_numpy(nearest)]
    return colours


def mean_squared_distances(
    points: Tensor,  # [N, 3], N >= 2
    device: torch.device | str = "cpu",
) -> Tensor:
    """Mean squared distance of every point to its three nearest neighbours, [N] float32 on the CPU.

    On a GPU simple-knn (submodules/simple-knn) does it where it is installed, else scipy; they
    agree to float32 rounding.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and len(points) > _NEIGHBOURS and importlib.util.find_spec("simple_knn") is not None:
        return by_simple_knn(points.detach().float().to(device)).cpu()
    where = points.detach().to("cpu", torch.float64).numpy()
    wanted = np.arange(2, min(_NEIGHBOURS + 1, len(where)) + 1)  # the first is the point itself
    distances, _ = cKDTree(where).query(where, k=wanted)
    return torch.from_numpy(distances).square().mean(dim=1).float()


def by_simple_knn(points: Tensor) -> Tensor:  # [N, 3] float32, N > 3, on the GPU
    """The same by simple-knn, [N] on the GPU."""
    extension = importlib.import_module("simple_knn._C")
    squared: Tensor = extension.distCUDA2(points.contiguous())
    return squared


def _thinned(points: Tensor, cap: int | None, seed: int) -> Tensor:
    """At most half as many points as the cap allows Gaussians, so that growth has room."""
    if cap is None or len(points) <= cap // 2:
        return points
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    return points[order[: max(2, cap // 2)].sort().values]


def _thinned_cloud(cloud: PointCloud, cap: int | None, seed: int) -> PointCloud:
    """The same of coloured points."""
    kept = _thinned(torch.arange(len(cloud.xyz)), cap, seed)
    return PointCloud(cloud.xyz[kept], cloud.rgb[kept])


def _common_cube(cameras: Sequence[Camera]) -> tuple[list[float], float]:
    """Centre and half size of the cube that the random start fills.

    3DGS takes [-1.3, 1.3]^3 for cameras about 4 units away. The same share of the mean distance is
    taken about the point nearest to all optical axes, so that other units and origins work too.
    """
    centre = common_point(cameras)
    if centre is None:
        raise parallel_cameras()
    distance = torch.stack([(camera.centre - centre).norm() for camera in cameras]).mean()
    return centre.tolist(), 1.3 / 4.0 * float(distance)


def _in_front(column: Tensor, row: Tensor, depth: Tensor, camera: Camera, spacing: float) -> Tensor:
    """Which of the projected points [P] have nothing clearly in front of them, [P] bool.

    The depth buffer has cells as wide as the points' spacing at their mean depth.
    """
    if not len(depth):
        return torch.zeros(0, dtype=torch.bool)
    cell = max(1.0, 1.5 * spacing * max(camera.fx, camera.fy) / float(depth.mean()))
    across = math.ceil(camera.width / cell) + 1
    down = math.ceil(camera.height / cell) + 1
    where = (row / cell).long() * across + (column / cell).long()
    nearest = torch.full((across * down,), math.inf).scatter_reduce(0, where, depth, "amin")
    return depth <= nearest[where] + _SAME_SURFACE * spacing


def _nearest_distances(points: Tensor) -> Tensor:
    """Distance of every point to its nearest other one, [N] float32."""
    where = points.detach().to("cpu", torch.float64).numpy()
    distances, _ = cKDTree(where).query(where, k=[2])  # the first is the point itself
    return torch.from_numpy(distances[:, 0]).float()
