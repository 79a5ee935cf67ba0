"""The parts of the adapter to 3DGS's rasteriser that need no GPU: frames, units, no Gaussians."""

import pytest
import torch
from small_scene import CAMERA, cloud, view_at

from gaussian_renderer import graphdeco, reference


def test_means_and_covariances_in_the_cameras_frame_are_those_that_are_projected() -> None:
    gaussians, view = cloud(), view_at(25)
    points, covariances = graphdeco.in_camera_frame(gaussians, view)
    x, y, z = points.unbind(-1)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([44 / z, zero, -44 * x / z**2, zero, 40 / z, -40 * y / z**2], dim=-1)
    jacobian = jacobian.unflatten(-1, (2, 3))
    full = covariances[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].unflatten(-1, (3, 3))
    flat = (jacobian @ full @ jacobian.mT).flatten(1)[:, [0, 1, 3]]
    flat = flat + torch.tensor([reference.LOW_PASS, 0.0, reference.LOW_PASS])
    expected = reference.covariance_2d(gaussians, CAMERA, view[:3, :3], points)
    inside = (x / z).abs() < 0.5  # beyond, the Jacobian is held at the edge of the image
    torch.testing.assert_close(flat[inside], expected[inside])
    assert inside.sum() > 20


def test_projection_keeps_the_principal_point() -> None:
    point = torch.tensor([0.3, -0.2, 2.0, 1.0], dtype=torch.float64)
    x, y, _, w = (graphdeco.projection_matrix(CAMERA) @ point).tolist()
    u, v = (x / w + 1) * CAMERA.width / 2, (y / w + 1) * CAMERA.height / 2
    assert u == pytest.approx(44.0 * 0.15 + 21.5)
    assert v == pytest.approx(-40.0 * 0.1 + 17.0)


def test_one_pixel_is_two_over_the_image_size_in_ndc() -> None:
    offsets = graphdeco.screen_to_ndc(torch.tensor([[45.0, 37.0], [1.0, 0.0]]), CAMERA)
    torch.testing.assert_close(offsets, torch.tensor([[2.0, 2.0, 0.0], [2 / 45, 0.0, 0.0]]))


def test_no_gaussians_leave_the_background() -> None:
    none = cloud().map(lambda t: t[:0])
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    screen = torch.zeros(0, 2, dtype=torch.float64)
    image, alpha, _, radii = graphdeco.rasterise(
        none, CAMERA, view_at(0), background, None, False, screen, 1
    )
    assert torch.equal(image, background[:, None, None].expand(3, 37, 45))
    assert not alpha.any()
    assert len(radii) == 0
