"""Sets of poses in one frame, and how far pictures move."""

import math

import pytest
import torch

from pose_estimation import align_poses, reprojection_shift, rotation_error
from scene import Camera
from scene.se3 import camera_centres, twist_exp


def poses(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    twists = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    found = twist_exp(twists)
    found[:, 2, 3] += 4.0
    return found


def test_a_similarity_is_taken_off_exactly():
    reference = poses()
    turn = twist_exp(torch.tensor([0.3, -0.2, 0.5, 0.0, 0.0, 0.0], dtype=torch.float64))[:3, :3]
    moved = reference.clone()  # the same cameras in a world that is turned, scaled and shifted
    moved[:, :3, :3] = reference[:, :3, :3] @ turn.T
    shift = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    centres = 1.7 * camera_centres(reference) @ turn.T + shift
    moved[:, :3, 3] = -(moved[:, :3, :3] @ centres[:, :, None])[:, :, 0]
    assert torch.allclose(align_poses(moved, reference), reference, atol=1e-9)


def test_noise_stays_noise():
    reference = poses(200)
    noise = 0.01 * torch.randn(200, 6, generator=torch.Generator().manual_seed(1)).double()
    noisy = twist_exp(noise) @ reference
    before = rotation_error(noisy, reference).mean()
    after = rotation_error(align_poses(noisy, reference), reference).mean()
    assert after == pytest.approx(float(before), rel=0.05)


def test_shift_of_the_picture_in_pixels():
    view = torch.eye(4, dtype=torch.float64)
    view[2, 3] = 4.0
    first = Camera(view, 100.0, 100.0, 50.0, 50.0, 100, 100)
    moved = view.clone()
    moved[0, 3] = 0.2
    points = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.1, 0.0], [-0.1, 0.2, 0.0]])
    assert reprojection_shift(points, first, first) == 0.0
    assert reprojection_shift(points, first, first.at(moved)) == pytest.approx(5.0, abs=1e-5)
    behind = view.clone()
    behind[2, 3] = -4.0
    assert reprojection_shift(points, first, first.at(behind)) == math.inf
