"""What a preset starts from and how it grows."""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from scene import (
    Camera,
    CappedGrowth,
    Capture,
    Gaussians,
    GrowthPolicy,
    PaperGrowth,
    PointCloud,
    View,
    VisualHull,
    common_point,
    initial_gaussians,
    outside_hull,
    parallel_cameras,
    point_colours,
    random_points,
    read_foreground,
    silhouette,
    visual_hull,
)

from .presets import TrainingPreset


def silhouettes(capture: Capture, views: Sequence[View], images: Sequence[Tensor]) -> list[Tensor]:
    """[H, W] bool per view: from the alpha channel where there is one, else from the background."""
    masks = []
    for view, image in zip(views, images, strict=True):
        alpha = read_foreground(view.image_path, (view.camera.width, view.camera.height))
        if alpha is not None:
            masks.append(alpha > 0.5)
        else:
            masks.append(silhouette(image.cpu(), capture.background or (0.0, 0.0, 0.0)))
    return masks


def starting_hull(
    preset: TrainingPreset, capture: Capture, views: Sequence[View], images: Sequence[Tensor]
) -> VisualHull | None:
    """The visual hull, where the preset wants it and the background is known.

    None as well where nothing says where the object is but the capture's own points.
    """
    if preset.start != "hull" or capture.background is None:
        return None
    if capture.points is not None and common_point([view.camera for view in views]) is None:
        return None
    return visual_hull([view.camera for view in views], silhouettes(capture, views, images))


def start_gaussians(
    preset: TrainingPreset,
    hull: VisualHull | None,
    capture: Capture,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],
    seed: int,
    device: torch.device,
) -> Gaussians:
    """Hull points, else the capture's own points (COLMAP), else random ones as in 3DGS."""
    if hull is not None:
        points = _thinned(hull.surface_points(), preset.max_gaussians, seed)
        cloud = PointCloud(points, point_colours(points, cameras, images))
    elif capture.points is not None:
        cloud = capture.points
    else:
        centre, half_size = _common_cube(cameras)
        cloud = random_points(preset.random_points, half_size, seed, centre)
    return initial_gaussians(
        cloud.xyz, cloud.rgb, preset.sh_degree, preset.start_opacity, device
    ).map(lambda t: t.to(device).contiguous())


def _thinned(points: Tensor, cap: int | None, seed: int) -> Tensor:
    """At most half as many points as the cap allows Gaussians, so that growth has room."""
    if cap is None or len(points) <= cap // 2:
        return points
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
    return points[order[: max(2, cap // 2)].sort().values]


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


def growth_policy(
    preset: TrainingPreset,
    extent: float,
    is_white: bool,
    hull: VisualHull | None,
) -> GrowthPolicy:
    """The policy of a preset, its schedule stretched to the number of iterations.

    The generator is seeded anew before every growth (see train.py), so that a resumed run draws
    what an undisturbed one draws.
    """
    generator = torch.Generator()
    if preset.growth == "paper":
        return PaperGrowth(extent, generator, white_background=is_white)

    def is_outside(means: Tensor) -> Tensor:
        return outside_hull(hull, means) if hull is not None else torch.zeros_like(means[:, 0]) > 0

    return CappedGrowth(
        cap=preset.max_gaussians or sys.maxsize,
        extent=extent,
        generator=generator,
        start=round(preset.growth_span[0] * preset.iterations),
        stop=round(preset.growth_span[1] * preset.iterations),
        every=preset.growth_every,
        dense_share=preset.dense_share,
        is_outside=is_outside,
    )
