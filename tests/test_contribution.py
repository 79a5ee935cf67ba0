"""What each Gaussian adds to a set of views."""

import torch

from gaussian_renderer import ObjectRenderer, largest_contribution
from scene import Camera, Gaussians


def _camera() -> Camera:
    view = torch.eye(4, dtype=torch.float64)
    view[2, 3] = 4.0
    return Camera(view, 60.0, 60.0, 24.0, 24.0, 48, 48)


def _cloud(z: list[float], scales: list[float], opacities: list[float]) -> Gaussians:
    count = len(z)
    means = torch.zeros(count, 3)
    means[:, 2] = torch.tensor(z)
    return Gaussians(
        means=means,
        log_scales=torch.tensor(scales).log()[:, None].repeat(1, 3),
        quaternions=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacity_logits=torch.tensor(opacities).logit(),
        sh=torch.zeros(count, 1, 3),
    )


def _model(cloud: Gaussians, backend: str = "auto") -> ObjectRenderer:
    return ObjectRenderer(cloud, torch.zeros(3), backend)


def test_weight_of_a_lone_gaussian_is_its_integral() -> None:
    cloud = _cloud([0.0], [0.2], [0.5])
    variance = (0.2 * 60 / 4) ** 2 + 0.3  # pixels^2; 0.3 is the low-pass filter of 3DGS
    expected = 0.5 * 2 * torch.pi * variance
    for backend in ("cpu", "reference"):
        weight = float(largest_contribution(_model(cloud, backend), [_camera()])[0])
        assert abs(weight / expected - 1) < 0.03  # what lies below alpha 1/255 is cut


def test_hidden_gaussian_adds_nothing_until_a_view_shows_it() -> None:
    front, behind = _camera(), _camera()
    turned = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    turned[2, 3] = 4.0
    behind = behind.at(turned)
    wall = [-0.9 + 0.01 * k for k in range(6)]
    cloud = _cloud([*wall, 0.9], [1.0] * 6 + [0.05], [0.98] * 6 + [0.9])
    assert float(largest_contribution(_model(cloud), [front])[-1]) < 1e-3
    assert float(largest_contribution(_model(cloud), [front, behind])[-1]) > 1.0
