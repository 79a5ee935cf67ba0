"""SE(3): the exponential, small angles, angles near pi, gradients; pose errors."""

import math

import pytest
import torch

from pose_estimation.errors import rotation_error, translation_error
from scene.se3 import (
    camera_centres,
    hat,
    inverse,
    quaternion,
    screw_exp,
    twist_exp,
)

DTYPES = (torch.float32, torch.float64)
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


def random_twists(count: int, angle: float, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(
        torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    linear = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return torch.cat([axis * angle, linear], dim=-1).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 0.03, 0.7, 0.71, 2.0, 3.1])
def test_exp_gives_rigid_transforms_and_matches_the_matrix_exponential(dtype, angle):
    twists = random_twists(20, angle, dtype)
    transforms = twist_exp(twists)
    generators = torch.zeros(20, 4, 4, dtype=torch.float64)
    generators[:, :3, :3] = hat(twists[:, :3].double())
    generators[:, :3, 3] = twists[:, 3:].double()
    expected = torch.linalg.matrix_exp(generators)
    assert (transforms.double() - expected).abs().max() < 5 * TOLERANCE[dtype]
    rotation = transforms[:, :3, :3].double()
    eye = torch.eye(3, dtype=torch.float64)
    assert (rotation @ rotation.transpose(1, 2) - eye).abs().max() < 5 * TOLERANCE[dtype]
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(20, dtype=torch.float64))


def test_inverse_undoes_a_motion():
    motions = twist_exp(random_twists(10, 1.2, torch.float64))
    identity = torch.eye(4, dtype=torch.float64).expand(10, 4, 4)
    assert torch.allclose(motions @ inverse(motions), identity, atol=1e-13)
    assert torch.allclose(inverse(motions) @ motions, identity, atol=1e-13)
    assert torch.equal(twist_exp(torch.zeros(6)), torch.eye(4))


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-3, 0.6, 2.5])
def test_gradients_of_exp(angle):
    twists = random_twists(2, angle, torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(twist_exp, (twists,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite_at_zero_in_both_float_types(dtype):
    twist = torch.zeros(6, dtype=dtype, requires_grad=True)
    twist_exp(twist).sum().backward()
    assert twist.grad is not None
    assert torch.isfinite(twist.grad).all()


def test_screw_is_equations_4_to_6():
    generator = torch.Generator().manual_seed(3)
    omega, v = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    theta = torch.tensor(0.9, dtype=torch.float64)
    skew = hat(omega / omega.norm())
    eye = torch.eye(3, dtype=torch.float64)
    rotation = eye + theta.sin() * skew + (1 - theta.cos()) * skew @ skew
    g = eye * theta + (1 - theta.cos()) * skew + (theta - theta.sin()) * skew @ skew
    transform = screw_exp(omega, v, theta)
    assert torch.allclose(transform[:3, :3], rotation, atol=1e-14)
    assert torch.allclose(transform[:3, 3], g @ v, atol=1e-14)
    assert torch.allclose(screw_exp(7 * omega, v, theta), transform, atol=1e-14)


def test_screw_gradients_at_and_near_zero():
    for scale in (0.0, 1e-6, 1.0):
        omega = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
        v = (scale * torch.ones(3, dtype=torch.float64)).requires_grad_(True)
        theta = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(screw_exp, (omega, v, theta))
    zero = torch.zeros(3, requires_grad=True)
    screw_exp(zero, torch.ones(3), torch.tensor(0.1)).sum().backward()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()
    moved = screw_exp(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), torch.tensor(0.5))
    assert torch.allclose(moved[:3, 3], torch.tensor([0.5, 1.0, 1.5]))


def test_quaternions_reproduce_their_rotations():
    from scene.gaussians import rotation_matrices

    rotation = twist_exp(random_twists(200, math.pi * 0.999, torch.float64))[:, :3, :3]
    assert torch.allclose(rotation_matrices(quaternion(rotation)), rotation, atol=1e-13)


def test_rotation_error_is_equation_8_and_keeps_small_angles():
    pose = twist_exp(random_twists(30, 2.0, torch.float64, 5))
    for angle in (0.0, 1e-9, 1e-4, 0.5, 3.0, math.pi):
        turned = pose @ twist_exp(random_twists(30, angle, torch.float64, 6))
        assert torch.allclose(
            rotation_error(turned, pose), torch.full((30,), angle, dtype=torch.float64), atol=2e-8
        )
        dot = (quaternion(turned[:, :3, :3]) * quaternion(pose[:, :3, :3])).sum(-1)
        by_paper = 2 * torch.arccos(dot.abs().clamp_max(1))
        assert torch.allclose(rotation_error(turned, pose), by_paper, atol=1e-7)


def test_translation_error_is_the_distance_of_camera_centres():
    pose = twist_exp(random_twists(1, 1.0, torch.float64, 7))[0]
    moved = pose.clone()
    moved[:3, 3] -= pose[:3, :3] @ torch.tensor([0.0, 3.0, 4.0], dtype=torch.float64)
    assert translation_error(moved, pose).item() == pytest.approx(5.0)
    offset = camera_centres(moved) - camera_centres(pose)
    assert torch.allclose(offset, torch.tensor([0.0, 3.0, 4.0], dtype=torch.float64))
