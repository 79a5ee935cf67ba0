"""Points triangulated from the images alone, on a printed board whose place is known exactly."""

import cv2
import numpy as np
import pytest
import torch
from captures import camera_at, look_at
from torch import Tensor

from scene import Camera, Capture, TrainImages, starting_points
from scene.triangulate import triangulated_points

SIZE = 200  # pixels
PRINT = 512  # pixels a side of the print, which lies in z = 0 from -1 to 1
CENTRES = [(2.5 * np.sin(a), 0.4 * np.cos(3 * a), 3.5) for a in np.linspace(-0.7, 0.7, 8)]


def board(seed: int = 0) -> np.ndarray:
    """A print in random colours, [512, 512, 3] uint8."""
    random = np.random.default_rng(seed)
    blots = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return cv2.resize(blots, (PRINT, PRINT), interpolation=cv2.INTER_CUBIC)


def photograph(camera: Camera, surface: np.ndarray) -> Tensor:
    """The board as a camera sees it on mid-grey, uint8 [3, H, W]."""
    to_world = np.array([[2 / PRINT, 0, -1], [0, 2 / PRINT, -1], [0, 0, 0], [0, 0, 1]])
    to_image = (camera.intrinsics @ camera.world_to_camera[:3]).numpy() @ to_world
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # OpenCV's pixel centres are whole
    matrix = np.linalg.inv(half) @ to_image @ half
    size = (camera.width, camera.height)
    image = cv2.warpPerspective(surface, matrix, size, borderValue=(128, 128, 128))
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def views(moved: int | None = None) -> tuple[list[Camera], list[Tensor]]:
    """Eight cameras and their photographs; the pose of number `moved` is wrong."""
    cameras = [camera_at(look_at(centre), SIZE) for centre in CENTRES]
    images = [photograph(camera, board()) for camera in cameras]
    if moved is not None:
        cameras[moved] = camera_at(look_at((0.0, -3.0, 2.0)), SIZE)
    return cameras, images


def test_points_lie_on_the_surface_in_its_colours() -> None:
    cameras, images = views()
    cloud = triangulated_points(cameras, images)
    pixel = 4.0 / cameras[0].fx  # at the board's distance
    assert len(cloud.xyz) > 500
    assert cloud.xyz[:, 2].abs().median() < 0.5 * pixel
    assert cloud.xyz[:, 2].abs().quantile(0.99) < 4 * pixel
    assert cloud.xyz[:, :2].abs().max() < 1.02
    places = ((cloud.xyz[:, :2] + 1) * PRINT / 2).long().clamp(0, PRINT - 1)
    printed = torch.from_numpy(board())[places[:, 1], places[:, 0]].float() / 255
    assert (cloud.rgb - printed).abs().mean() < 0.06  # unrelated colours: 0.25


def test_one_view_at_a_wrong_pose_adds_no_wrong_points() -> None:
    cameras, images = views(moved=3)
    cloud = triangulated_points(cameras, images)
    assert len(cloud.xyz) > 400
    assert cloud.xyz[:, 2].abs().quantile(0.97) < 0.1


def test_the_same_bits_for_any_number_of_threads() -> None:
    cameras, images = views()
    first, second = (triangulated_points(cameras, images, threads) for threads in (1, 3))
    assert torch.equal(first.xyz, second.xyz)
    assert torch.equal(first.rgb, second.rgb)


def test_flat_images_and_views_without_a_baseline_give_no_points() -> None:
    cameras, images = views()
    grey = [torch.full_like(image, 128) for image in images]
    assert len(triangulated_points(cameras, grey).xyz) == 0
    assert len(triangulated_points(cameras[:1] * 4, images[:1] * 4).xyz) == 0


def started(images: list[Tensor], cap: int | None, **more: bool) -> tuple[Tensor, Tensor]:
    capture = Capture("board", None, "mad", (), (), None)  # type: ignore[arg-type]
    cameras = views()[0]
    return starting_points(capture, cameras, TrainImages(images, None), None, cap, **more)


def test_training_starts_from_them_where_there_is_no_background(
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = views()[1]
    xyz, _ = started(images, None, may_match=True)
    assert xyz[:, 2].abs().median() < 0.02
    assert len(started(images, 200, may_match=True)[0]) == 100  # room for growth under the cap
    grey = [torch.full_like(image, 128) for image in images]
    xyz, _ = started(grey, 300, may_match=True)
    assert xyz[:, 2].abs().median() > 0.3
    assert len(xyz) == 150
    assert "agree on 0 points only" in caplog.text
    assert len(started(images, 300)[0]) == 150  # the paper's preset starts at random
