"""A symmetry of the object: several poses fit, and all of them are told."""

import math

import pytest
import torch
from pose_scenes import WHITE, orbit, picture, tiny_object

from gaussian_renderer import ObjectRenderer
from pose_estimation import Hypothesis, PoseEstimate, estimate_pose, rotation_error
from pose_estimation.ambiguity import advantage, distinct
from scene import Camera, Gaussians
from scene.se3 import twist_exp

SIZE = 96
HALF_TURN = twist_exp(torch.tensor([0.0, 0.0, math.pi, 0.0, 0.0, 0.0], dtype=torch.float64))
CAMERA: Camera = orbit(12)[7].resized(SIZE, SIZE)


def pair(marked: bool) -> Gaussians:
    """An object and its copy after half a turn about z; a few Gaussians of one may be repainted."""
    first = tiny_object()
    second = first.map(torch.clone)
    second.means[:, :2] *= -1
    if marked:
        second.sh[:12] = torch.tensor([2.0, -2.0, 2.0])
    both = zip(vars(first).values(), vars(second).values(), strict=True)
    return Gaussians(*(torch.cat(parts) for parts in both))


def found(gaussians: Gaussians) -> PoseEstimate:
    """The pose of a noisy query, from the wrong one of two hypotheses first."""
    generator = torch.Generator().manual_seed(2)
    image = picture(gaussians, CAMERA)
    image = (image + 0.02 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    true = CAMERA.world_to_camera
    starts = [Hypothesis(true @ HALF_TURN, 1.0), Hypothesis(true, 1.0)]
    return estimate_pose(ObjectRenderer(gaussians, WHITE), CAMERA, image, starts)


def degrees(pose: torch.Tensor, other: torch.Tensor) -> float:
    return math.degrees(rotation_error(pose, other))


def test_both_poses_of_a_symmetric_object_are_told():
    estimate = found(pair(marked=False))
    assert len(estimate.alternatives) == 1
    told = (estimate.world_to_camera, *estimate.alternatives)
    for true in (CAMERA.world_to_camera, CAMERA.world_to_camera @ HALF_TURN):
        assert min(degrees(pose, true) for pose in told) < 1


def test_a_small_mark_that_breaks_the_symmetry_decides():
    estimate = found(pair(marked=True))
    assert estimate.alternatives == ()
    assert degrees(estimate.world_to_camera, CAMERA.world_to_camera) < 1


def test_the_advantage_is_noise_between_equal_poses_and_large_where_a_few_blocks_differ():
    generator = torch.Generator().manual_seed(5)
    image = torch.full((3, 60, 60), 0.5)
    first, second = (image + 0.02 * torch.randn(image.shape, generator=generator) for _ in "ab")
    assert abs(advantage(image, first, second, 0.05)) < 3
    second[:, :12, :12] += 0.4
    assert advantage(image, first, second, 0.05) > 10
    assert advantage(image, second, first, 0.05) < -10


def test_distinct_poses_are_the_best_of_each_place():
    poses = torch.stack([camera.world_to_camera for camera in orbit(6)[:3]])
    poses = torch.cat([poses, poses[:1]])
    losses = torch.tensor([3.0, 1.0, 2.0, 0.5], dtype=torch.float64)
    assert distinct(poses, losses, 8).tolist() == [3, 1, 2]
    assert distinct(poses, losses, 2).tolist() == [3, 1]


@pytest.mark.parametrize("count", [9, 40])
def test_the_right_pose_is_found_among_many_hypotheses(count: int):
    gaussians = tiny_object()
    true = CAMERA.world_to_camera
    wrong = [camera.world_to_camera for camera in orbit(count)]
    starts = [Hypothesis(pose, 1.0) for pose in wrong if degrees(pose, true) > 30]
    turn = twist_exp(torch.tensor([0.08, -0.05, 0.04, 0.0, 0.0, 0.0], dtype=torch.float64))
    starts.append(Hypothesis(true @ turn, 0.5))
    model = ObjectRenderer(gaussians, WHITE)
    estimate = estimate_pose(model, CAMERA, picture(gaussians, CAMERA), starts)
    assert estimate.hypothesis == len(starts) - 1
    assert degrees(estimate.world_to_camera, true) < 0.2
