"""The matcher for objects without texture in unknown surroundings."""

import math
from dataclasses import replace

import pytest
import torch
from clutter_scenes import angle_iron, camera_from, query
from pose_scenes import visible
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from pose_estimation import Gallery, Hypothesis, build_gallery, rotation_error, select_matcher
from pose_estimation.matchers.gradients import GradientMatcher
from pose_estimation.viewpoints import fibonacci_sphere
from scene import Camera, InputError
from scene.se3 import twist_exp

NEAR, APART = math.radians(15.0), 0.15  # of the rotation, and of the distance


@pytest.fixture(scope="module")
def model() -> ObjectRenderer:
    return angle_iron()


@pytest.fixture(scope="module")
def gallery(model: ObjectRenderer) -> Gallery:
    cameras = [camera_from(d) for d in fibonacci_sphere(40) if d[2] > 0]
    with torch.no_grad():
        images = [model(camera).image.clamp(0, 1) for camera in cameras]
    return build_gallery(
        model, cameras, images, [visible(i) for i in images], rendered_directions=0
    )


@pytest.fixture(scope="module")
def matcher(model: ObjectRenderer, gallery: Gallery) -> GradientMatcher:
    made = select_matcher("gradients", gallery, model).matcher
    assert isinstance(made, GradientMatcher)
    return made


def rank(found: list[Hypothesis], true: Tensor) -> int:
    """The place of the first hypothesis near the true pose; 99 if there is none."""
    for place, hypothesis in enumerate(found):
        pose = hypothesis.world_to_camera
        shift = float((pose[:3, 3] - true[:3, 3]).norm() / true[:3, 3].norm())
        if float(rotation_error(pose, true)) < NEAR and shift < APART:
            return place
    return 99


def directions() -> list[Tensor]:
    """Upper ones, off those of the train views."""
    generator = torch.Generator().manual_seed(8)
    every = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    return [d / d.norm() for d in every if d[2] > 0.3 * d.norm()][:8]


@pytest.mark.parametrize("coloured", [True, False])
def test_a_grey_object_is_found_in_clutter(model, matcher, coloured):
    ranks = []
    for number, direction in enumerate(directions()):
        camera = camera_from(direction, 3.7 + 0.1 * number)
        found = matcher.coarse_poses(query(model, camera, number, coloured), camera)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        ranks.append(rank(found, camera.world_to_camera))
    assert max(ranks) < 16
    assert sorted(ranks)[-2] < 4


def test_it_is_found_rolled_and_off_the_middle_through_another_lens(model, matcher):
    ranks = []
    for number, direction in enumerate(directions()[:5]):
        straight = camera_from(direction)
        twist = torch.zeros(6, dtype=torch.float64)
        twist[2], twist[3] = 1.3 * number, 0.5
        pose = twist_exp(twist) @ straight.world_to_camera
        other = replace(
            straight, world_to_camera=pose, fx=1.25 * straight.fx, fy=1.25 * straight.fy
        )
        found = matcher.coarse_poses(query(model, other, 20 + number), other)
        ranks.append(rank(found, pose))
    assert sorted(ranks)[-2] < 8


def test_the_same_query_gives_the_same_poses_for_any_number_of_threads(model, gallery, matcher):
    camera = camera_from(directions()[0])
    image = query(model, camera, 3)
    threaded = select_matcher("gradients", gallery, replace(model, threads=2)).matcher
    again = threaded.coarse_poses_many(image[None], camera)[0]
    for one, other in zip(matcher.coarse_poses(image, camera), again, strict=True):
        assert torch.equal(one.world_to_camera, other.world_to_camera)
        assert one.score == other.score


def test_hypotheses_differ_from_each_other(model, matcher):
    camera = camera_from(directions()[1])
    poses = [h.world_to_camera for h in matcher.coarse_poses(query(model, camera, 4), camera)]
    for number, pose in enumerate(poses):
        for other in poses[:number]:
            turned = float(rotation_error(pose, other))
            shift = float((pose[:3, 3] - other[:3, 3]).norm() / 4.0)
            assert turned > math.radians(11.9) or shift > 0.09


def test_images_of_any_size_and_without_any_edge_are_searched(matcher):
    for height, width in ((1, 1), (3, 300), (40, 30), (600, 800)):
        pose = torch.eye(4, dtype=torch.float64)
        camera = Camera(pose, width, width, width / 2, height / 2, width, height)
        for found in matcher.coarse_poses(torch.full((3, height, width), 0.5), camera):
            assert found.world_to_camera.isfinite().all()


def test_a_model_that_shows_nothing_gives_no_templates(model, gallery):
    hidden = model.gaussians.map(torch.clone)
    hidden.opacity_logits[:] = -20.0
    with pytest.raises(InputError, match="shows no object"):
        select_matcher("gradients", gallery, replace(model, gaussians=hidden))
