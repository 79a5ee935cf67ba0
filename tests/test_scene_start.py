"""The visual hull, the colours of its points, and the first Gaussians."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import captures
import pytest
import torch
from captures import ball_mask, camera_at, look_at, orbit
from torch import Tensor

from scene import (
    Camera,
    Capture,
    InputError,
    TrainImages,
    VisualHull,
    initial_gaussians,
    outside_hull,
    read_capture,
    read_image,
    read_train_images,
    scene_extent,
    silhouette,
    starting_hull,
    starting_points,
)
from scene.hull import visual_hull
from scene.initialise import point_colours, random_points

SIZE = 96  # pixels
RESOLUTION = 40  # voxels


def ball_views(
    count: int = 40, radius: float = 0.8, centre: Sequence[float] = (0, 0, 0), distance: float = 4
) -> tuple[list[Camera], list[Tensor]]:
    cameras = [camera_at(pose, SIZE) for pose in orbit(count, distance, centre)]
    return cameras, [ball_mask(camera, radius, centre) for camera in cameras]


@pytest.mark.parametrize(
    ("centre", "unit"), [((0, 0, 0), 1.0), ((5, -3, 2), 1.0), ((0, 0, 9), 20.0)]
)
def test_ball_anywhere_at_any_scale(centre: tuple[int, int, int], unit: float) -> None:
    cameras, silhouettes = ball_views(radius=0.8 * unit, centre=centre, distance=4 * unit)
    hull = visual_hull(cameras, silhouettes, RESOLUTION)
    points = hull.surface_points()
    distances = (points - torch.tensor(centre)).norm(dim=1) / unit
    pixel = 4 / cameras[0].fx  # one pixel at the ball's distance, in units
    assert hull.voxel == pytest.approx(1.6 * unit / RESOLUTION, rel=0.3)
    assert distances.min() > 0.8 - 2 * hull.voxel / unit
    assert distances.max() < 0.8 + hull.voxel / unit + 2 * pixel
    assert distances.median() == pytest.approx(0.8, abs=0.05)
    assert len(points) > 4 * math.pi * (0.7 * unit / hull.voxel) ** 2


def test_result_does_not_depend_on_chance() -> None:
    cameras, silhouettes = ball_views(20)
    first, second = (visual_hull(cameras, silhouettes, RESOLUTION) for _ in range(2))
    assert torch.equal(first.surface_points(), second.surface_points())


def test_a_few_wrong_silhouettes_do_no_harm() -> None:
    cameras, silhouettes = ball_views(60)
    clean = visual_hull(cameras, silhouettes, RESOLUTION).occupied.sum()
    silhouettes[7] = torch.zeros_like(silhouettes[7])  # nothing found
    silhouettes[30] = silhouettes[30].roll(30, dims=1)  # wrong pose
    spoilt = visual_hull(cameras, silhouettes, RESOLUTION)
    points = spoilt.surface_points()
    assert spoilt.occupied.sum() > 0.9 * clean
    assert points.norm(dim=1).max() < 0.95


def test_background_coloured_specks_on_the_object_are_filled() -> None:
    cameras, silhouettes = ball_views(20)
    for outline in silhouettes:
        outline[46:50, 46:50] = False  # a highlight in every view
    hull = visual_hull(cameras, silhouettes, RESOLUTION)
    middle = ((torch.zeros(3) - hull.origin) / hull.voxel).long()
    assert hull.occupied[tuple(middle)]


def test_a_hole_through_the_object_stays_open() -> None:
    cameras, silhouettes = ball_views(40)
    for camera, outline in zip(cameras, silhouettes, strict=True):
        outline &= ~ball_mask(camera, 0.4)  # seen as a ring from everywhere
    with pytest.raises(InputError, match="no point in common"):
        visual_hull(cameras, [ball_mask(c, 0.0) for c in cameras], RESOLUTION)
    hull = visual_hull(cameras, silhouettes, RESOLUTION)
    middle = ((torch.zeros(3) - hull.origin) / hull.voxel).long()
    assert not hull.occupied[tuple(middle)]


def test_cameras_that_have_no_common_point() -> None:
    poses = [torch.eye(4, dtype=torch.float64) for _ in range(3)]
    for i, pose in enumerate(poses):
        pose[0, 3] = i
    cameras = [camera_at(pose, SIZE) for pose in poses]
    masks = [torch.ones(SIZE, SIZE, dtype=torch.bool)] * 3
    with pytest.raises(InputError, match="look in parallel"):
        visual_hull(cameras, masks)
    outward = [camera_at(look_at(tuple(c), tuple(2 * c)), SIZE) for c in 4 * torch.eye(3)]
    with pytest.raises(InputError, match="look away from their common point"):
        visual_hull(outward, masks)


def test_silhouettes_must_fit_their_cameras() -> None:
    cameras, silhouettes = ball_views(4)
    with pytest.raises(ValueError, match="4 cameras but 3 silhouettes"):
        visual_hull(cameras, silhouettes[:3])
    with pytest.raises(ValueError, match="not of its camera's size"):
        visual_hull(cameras, [silhouettes[0][:50], *silhouettes[1:]])


def test_outside_hull() -> None:
    occupied = torch.zeros(6, 5, 4, dtype=torch.bool)
    occupied[0, 2, 1] = True  # at the grid's border
    origin = torch.tensor([10.0, 0.0, 0.0], dtype=torch.float64)
    hull = VisualHull(occupied, origin, 0.5)
    points = torch.tensor(
        [[10.2, 1.2, 0.7], [9.2, 1.2, 0.7], [8.9, 1.2, 0.7], [10.2, 2.4, 0.7], [10.2, 2.6, 0.7]]
    )
    assert outside_hull(hull, points, margin=0).tolist() == [False, True, True, True, True]
    assert outside_hull(hull, points, margin=2).tolist() == [False, False, True, False, True]


def test_surface_points_leave_the_inside_out() -> None:
    occupied = torch.ones(3, 3, 3, dtype=torch.bool)
    points = VisualHull(occupied, torch.zeros(3, dtype=torch.float64), 2.0).surface_points()
    assert len(points) == 26  # the grid's border counts as free
    assert [3.0, 3.0, 3.0] not in points.tolist()


def test_hull_is_fast_enough() -> None:
    cameras, silhouettes = ball_views(70)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    visual_hull(cameras, silhouettes)
    seconds = time.process_time() - start
    torch.set_num_threads(threads)
    assert seconds < 6  # about 1 on a quiet machine


def test_colours_come_from_the_views_that_see_the_point() -> None:
    # two walls one behind the other: the front one red, the back one blue, seen from both sides
    grid = torch.linspace(-0.5, 0.5, 21)
    y, z = torch.meshgrid(grid, grid, indexing="ij")
    front, back = (torch.stack([torch.full_like(y, x), y, z], -1).reshape(-1, 3) for x in (1, -1))
    cameras = [camera_at(look_at((4, 0, 0)), SIZE), camera_at(look_at((-4, 0, 0)), SIZE)]
    red, blue = (
        torch.tensor(c, dtype=torch.uint8).view(3, 1, 1).expand(3, SIZE, SIZE)
        for c in ([255, 0, 0], [0, 0, 255])
    )
    colours = point_colours(torch.cat([front, back]), cameras, [red, blue])
    torch.testing.assert_close(colours[:441].mean(0), torch.tensor([1.0, 0, 0]), atol=0.02, rtol=0)
    torch.testing.assert_close(colours[441:].mean(0), torch.tensor([0, 0, 1.0]), atol=0.02, rtol=0)


def test_colour_is_the_mean_over_views_and_falls_back_to_the_nearest_point() -> None:
    cameras = [camera_at(look_at((4, 0, 0)), SIZE), camera_at(look_at((0, 4, 0)), SIZE)]
    images = [torch.full((3, SIZE, SIZE), value, dtype=torch.uint8) for value in (51, 153)]
    points = torch.tensor([[0.0, 0, 0], [0, 0, 0.3], [0, 0, 50.0]])  # the last one is out of frame
    torch.testing.assert_close(point_colours(points, cameras, images), torch.full((3, 3), 0.4))
    unseen = points + torch.tensor([0, 0, 100.0])
    assert torch.equal(point_colours(unseen, cameras, images), torch.full((3, 3), 0.5))


def test_initial_gaussians() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 2], [9, 9, 9]])
    colours = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    gaussians = initial_gaussians(points, colours, sh_degree=2)
    assert gaussians.sh.shape == (5, 9, 3)
    # squared distances to the three nearest neighbours of the origin: 1, 4, 4
    torch.testing.assert_close(gaussians.scales[0], torch.full((3,), 3**0.5))
    torch.testing.assert_close(gaussians.opacities, torch.full((5,), 0.1))
    torch.testing.assert_close(0.5 + 0.28209479 * gaussians.sh[:, 0], colours)
    assert gaussians.sh[:, 1:].count_nonzero() == 0
    assert gaussians.rotations.tolist() == [[1, 0, 0, 0]] * 5


def test_initial_gaussians_of_coinciding_and_of_too_few_points() -> None:
    twins = initial_gaussians(torch.zeros(2, 3), torch.zeros(2, 3))
    assert twins.log_scales.isfinite().all()
    with pytest.raises(ValueError, match="points and"):
        initial_gaussians(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="two points"):
        point_colours(torch.zeros(1, 3), [], [])


def test_random_points() -> None:
    xyz, rgb = random_points(1000, 2.0, seed=1, centre=(10, 0, 0))
    assert xyz.shape == rgb.shape == (1000, 3)
    assert (xyz - torch.tensor([10.0, 0, 0])).abs().max() <= 2
    assert (xyz[:, 0].min() < 8.1) & (xyz[:, 0].max() > 11.9)
    assert (rgb - 0.5).abs().max() < 0.01
    assert torch.equal(xyz, random_points(1000, 2.0, seed=1, centre=(10, 0, 0)).xyz)
    assert not torch.equal(xyz, random_points(1000, 2.0, seed=2, centre=(10, 0, 0)).xyz)


def test_scene_extent() -> None:
    cameras = [camera_at(look_at(c)) for c in ((4, 0, 1), (-4, 0, 1), (0, 2, 1), (0, -2, 1))]
    assert scene_extent(cameras) == pytest.approx(1.1 * 4)


def test_projection_agrees_with_the_intrinsics() -> None:
    camera = camera_at(look_at((1.0, 2.0, 3.0)), SIZE)
    column, row, depth = camera.project(torch.zeros(1, 3, dtype=torch.float64))
    assert (column.item(), row.item()) == pytest.approx((SIZE / 2, SIZE / 2))
    assert depth.item() == pytest.approx(14**0.5)


def test_hull_of_the_bundled_class() -> None:
    capture = read_capture(Path(__file__).parent.parent / "data" / "brick_dog")
    views = capture.views[::3]
    assert capture.background is not None
    masks = [silhouette(read_image(view.image_path), capture.background) for view in views]
    points = visual_hull([view.camera for view in views], masks).surface_points()
    assert 14_000 < len(points) < 20_000
    for view, mask in zip(views, masks, strict=True):
        column, row, _ = view.camera.project(points)
        near = torch.nn.functional.max_pool2d(mask[None].float(), 7, 1, 3)[0]  # 3 px to every side
        assert near[row.long(), column.long()].mean() > 0.96, view.name


def ball_capture(tmp_path: Path) -> tuple[Capture, list[Camera], TrainImages]:
    capture = read_capture(captures.write_colmap(tmp_path / "cup", views=12))
    images = read_train_images(capture, capture.views)
    return capture, [view.camera for view in capture.views], images


def test_the_start_is_the_hull_else_the_points_of_the_capture_else_random(tmp_path: Path) -> None:
    capture, cameras, images = ball_capture(tmp_path)
    hull = starting_hull(capture, cameras, images)
    assert hull is not None
    on_hull = starting_points(capture, cameras, images, hull)
    assert on_hull.xyz.norm(dim=1).median() == pytest.approx(captures.RADIUS, abs=0.1)
    colour = torch.tensor(captures.COLOUR) / 255
    torch.testing.assert_close(on_hull.rgb.median(dim=0).values, colour, atol=0.02, rtol=0)
    assert capture.points is not None
    for start, given in zip(
        starting_points(capture, cameras, images, None), capture.points, strict=True
    ):
        assert torch.equal(start, given)
    assert len(starting_points(capture, cameras, images, None, 5).xyz) == 2  # the cap binds
    without = replace(capture, points=None)
    cloud = starting_points(without, cameras, images, None, random_count=500, seed=2)
    assert cloud.xyz.shape == (500, 3)
    assert cloud.xyz.abs().max() == pytest.approx(1.3 / 4 * captures.DISTANCE, rel=0.02)


def test_the_start_leaves_room_under_the_cap_for_densification(tmp_path: Path) -> None:
    capture, cameras, images = ball_capture(tmp_path)
    hull = starting_hull(capture, cameras, images)
    everything, few, again = (
        starting_points(capture, cameras, images, hull, cap, seed=1).xyz for cap in (None, 80, 80)
    )
    assert len(everything) > len(few) == 40
    assert torch.equal(few, again)


def test_no_hull_without_a_plain_background_or_a_common_point(tmp_path: Path) -> None:
    capture, cameras, images = ball_capture(tmp_path)
    assert starting_hull(capture, cameras, replace(images, silhouettes=None)) is None
    parallel = [cameras[0], cameras[0]]
    assert starting_hull(capture, parallel, images) is None
    with pytest.raises(InputError, match="look in parallel"):
        starting_points(replace(capture, points=None), parallel, images, None)
