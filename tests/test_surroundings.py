"""Queries in unknown surroundings: found, cut out, compared; refused where the object is not."""

import math
from pathlib import Path

import pytest
import torch
from clutter_scenes import angle_iron, camera_from, clutter, query
from PIL import Image
from pose_scenes import visible
from torch import Tensor

from anomaly import FeatureScorer, make_features
from gaussian_renderer import ObjectRenderer
from pipeline.inspector import Inspector
from pipeline.surroundings import SurroundingsSearch
from pose_estimation import (
    PoseSettings,
    build_gallery,
    calibrate_pose_check,
    matchers_in_surroundings,
    rotation_error,
    select_matcher,
)
from pose_estimation.viewpoints import fibonacci_sphere
from scene import InputError, World

DIRECTIONS = [(0.5, -0.8, 0.6), (-0.7, 0.3, 0.8), (0.2, 0.9, 0.5)]


@pytest.fixture(scope="module")
def model() -> ObjectRenderer:
    return angle_iron()


@pytest.fixture(scope="module")
def station(model: ObjectRenderer) -> tuple[SurroundingsSearch, Inspector]:
    """What train.py would leave of an object that was photographed before white."""
    cameras = [camera_from(d) for d in fibonacci_sphere(60) if d[2] > 0]
    with torch.no_grad():
        images = [model(camera).image.clamp(0, 1) for camera in cameras]
    gallery = build_gallery(
        model, cameras, images, [visible(i) for i in images], rendered_directions=0
    )
    matcher = select_matcher("silhouette", gallery, model).matcher
    check, _ = calibrate_pose_check(model, matcher, cameras[::5], images[::5])
    assert check is not None
    search = SurroundingsSearch(
        model,
        cameras[0],
        matchers_in_surroundings(gallery, model),
        PoseSettings("lm"),
        check.in_surroundings(),
        None,
    )
    scorer = FeatureScorer(model, make_features("rgb", None, torch.device("cpu"))[0])
    inspector = Inspector(
        "iron", model, cameras[0], World(), matcher, PoseSettings(), scorer, pose_check=check,
        is_plain=True, search=search,
    )  # fmt: skip
    return search, inspector


def write(path: Path, image: Tensor) -> None:
    pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(path)


def direction(place: int) -> Tensor:
    found = torch.tensor(DIRECTIONS[place], dtype=torch.float64)
    return found / found.norm()


@pytest.mark.parametrize("place", range(len(DIRECTIONS)))
def test_an_object_without_texture_is_found_in_clutter_and_cut_out(model, station, place):
    search, _ = station
    camera = camera_from(direction(place))
    cut, pose = search(query(model, camera, 11 + place))
    assert pose.pose_ok
    assert math.degrees(rotation_error(pose.world_to_camera, camera.world_to_camera)) < 1
    with torch.no_grad():
        plain = model(camera).image.clamp(0, 1)
    assert (cut - plain).abs().mean() < 0.01
    assert (cut - plain).abs().amax(dim=0).quantile(0.98) < 0.1


def test_a_defect_stays_in_what_is_cut_out(model, station):
    search, _ = station
    camera = camera_from(direction(0))
    image = query(model, camera, 5)
    with torch.no_grad():
        inside = model(camera).alpha > 0.99
    rows, columns = inside.nonzero().unbind(1)
    row, column = int(rows.median()), int(columns.median())
    stain = torch.zeros_like(inside)
    stain[row - 4 : row + 5, column - 4 : column + 5] = True
    stain &= inside
    image[:, stain] = torch.tensor([0.9, 0.1, 0.1])[:, None]
    cut, pose = search(image)
    assert pose.pose_ok
    assert torch.allclose(cut[:, stain], image[:, stain], atol=0.005)


def test_clutter_without_the_object_is_refused(station):
    search, _ = station
    for seed in (21, 22, 23):
        image = torch.from_numpy(clutter(seed, True)).permute(2, 0, 1).contiguous()
        try:
            _, pose = search(image)
        except InputError:
            continue
        assert pose.pose_ok is False


def test_an_inspection_says_that_the_object_was_found_in_unknown_surroundings(
    model: ObjectRenderer, station: tuple[SurroundingsSearch, Inspector], tmp_path: Path
) -> None:
    _, inspector = station
    camera, paths = camera_from(direction(1)), []
    with torch.no_grad():
        plain = model(camera).image.clamp(0, 1)
    for name, image in (("room", query(model, camera, 3)), ("plain", plain)):
        paths.append(tmp_path / f"{name}.png")
        write(paths[-1], image)
    room, white = inspector.inspect(paths)
    assert room.error is None
    assert white.error is None
    assert room.background.startswith("unknown")
    assert "plain" in white.background
    for found in (room, white):
        assert found.pose is not None
        assert found.pose.pose_ok
        assert math.degrees(rotation_error(found.pose.world_to_camera, camera.world_to_camera)) < 1


def test_an_image_without_the_object_does_not_cost_its_neighbours(
    model: ObjectRenderer, station: tuple[SurroundingsSearch, Inspector], tmp_path: Path
) -> None:
    _, inspector = station
    camera = camera_from(direction(2))
    images = [query(model, camera, 4), torch.from_numpy(clutter(31, True)).permute(2, 0, 1)]
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, image in zip(paths, images, strict=True):
        write(path, image)
    found, other = inspector.inspect(paths)
    assert found.pose is not None
    assert found.pose.pose_ok
    assert other.error is not None or (other.pose is not None and other.pose.pose_ok is False)
