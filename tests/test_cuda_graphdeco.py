"""The adapter to the CUDA rasteriser of 3DGS, held against `reference` through a stand-in for the
extension that keeps the extension's conventions (NDC, transposed matrices, three channels)."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from cuda_scene import CAMERA, cloud, outputs, view_at
from torch import Tensor

from gaussian_renderer import graphdeco, reference


class Settings(NamedTuple):
    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor
    scale_modifier: float
    viewmatrix: Tensor
    projmatrix: Tensor
    sh_degree: int
    campos: Tensor
    prefiltered: bool
    debug: bool


class Rasteriser:
    """What the extension computes, from its documented inputs, in plain PyTorch."""

    def __init__(self, raster_settings: Settings) -> None:
        self.settings = raster_settings

    def __call__(
        self,
        means3D: Tensor,
        means2D: Tensor,
        opacities: Tensor,
        colors_precomp: Tensor,
        cov3D_precomp: Tensor,
    ) -> tuple[Tensor, Tensor]:
        s, n = self.settings, len(means3D)
        assert means2D.shape == (n, 3)
        assert opacities.shape == (n, 1)
        assert colors_precomp.shape == (n, 3)
        assert cov3D_precomp.shape == (n, 6)
        assert s.bg.shape == (3,)
        assert s.projmatrix.is_contiguous()
        world = torch.nn.functional.pad(means3D, (0, 1), value=1.0)
        points = (world @ s.viewmatrix)[:, :3]  # matrices come transposed
        clip = world @ s.projmatrix
        ndc = clip[:, :2] / clip[:, 3:] + means2D[:, :2]
        size = ndc.new_tensor([s.image_width, s.image_height])
        centres = ((ndc + 1) * size - 1) / 2  # pixel centres lie at integers
        a, b, c = _covariance_2d(points, cov3D_precomp, s).unbind(-1)
        order = torch.argsort(points[:, 2].detach(), stable=True)
        projected: Any = SimpleNamespace(
            means=centres[order],
            conics=(torch.stack([c, -b, a], -1) / (a * c - b * b)[:, None])[order],
            opacities=opacities[order, 0],
        )
        xs, ys = (torch.arange(k, dtype=ndc.dtype) for k in (s.image_width, s.image_height))
        image, alpha = reference._blend_tile(
            projected, colors_precomp[order], torch.arange(n), xs, ys
        )
        image = image + (1 - alpha)[:, None] * s.bg
        shape = (3, s.image_height, s.image_width)
        return image.T.reshape(shape), torch.ones(n, dtype=torch.int32)


def _covariance_2d(points: Tensor, cov: Tensor, s: Settings) -> Tensor:
    x, y, z = points.unbind(-1)
    fx, fy = s.image_width / (2 * s.tanfovx), s.image_height / (2 * s.tanfovy)
    tx = z * (x / z).clamp(-1.3 * s.tanfovx, 1.3 * s.tanfovx)
    ty = z * (y / z).clamp(-1.3 * s.tanfovy, 1.3 * s.tanfovy)
    zero = torch.zeros_like(z)
    rows = [fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2]
    jacobian = torch.stack(rows, -1).reshape(-1, 2, 3)
    full = cov[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    c2 = jacobian @ full @ jacobian.transpose(1, 2)
    return torch.stack([c2[:, 0, 0] + 0.3, c2[:, 0, 1], c2[:, 1, 1] + 0.3], -1)


@pytest.fixture(autouse=True)
def extension(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("diff_gaussian_rasterization")
    fake.GaussianRasterizationSettings = Settings  # type: ignore[attr-defined]
    fake.GaussianRasterizer = Rasteriser  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", fake)


@pytest.mark.parametrize("channels", [None, 1, 2, 7])
@pytest.mark.parametrize("with_depth", [False, True])
def test_images_and_gradients_are_those_of_reference(
    channels: int | None, with_depth: bool
) -> None:
    gaussians = cloud()
    g = torch.Generator().manual_seed(1)
    colours = channels and torch.rand(len(gaussians), channels, generator=g, dtype=torch.float64)
    background = torch.linspace(0.2, 0.9, channels or 3, dtype=torch.float64)
    ours, our_gradients = outputs(graphdeco, CAMERA, gaussians, colours, background, with_depth)
    theirs, their_gradients = outputs(reference, CAMERA, gaussians, colours, background, with_depth)
    for ours_i, theirs_i in zip(ours, theirs, strict=True):
        torch.testing.assert_close(ours_i, theirs_i, rtol=0, atol=1e-9)
    for name, expected in their_gradients.items():
        if expected is None:  # SH are not used when colours are given
            assert our_gradients[name] is None
            continue
        assert expected.norm() > 0, name
        assert (our_gradients[name] - expected).norm() < 1e-7 * expected.norm(), name


def test_pose_gradient_flows_through_the_moved_gaussians() -> None:
    """The extension knows no pose: the gradient of `view` must come from means and covariances."""
    _, gradients = outputs(
        graphdeco, CAMERA, cloud(), None, torch.ones(3, dtype=torch.float64), False
    )
    assert gradients["view"][:3].abs().min() > 0
    assert gradients["view"][3].abs().max() == 0


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
    empty = cloud().map(lambda t: t[:0])
    background = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    image, alpha, depth, radii = graphdeco.rasterise(
        empty, CAMERA, view_at(25), background, None, True, torch.zeros(0, 2).double(), 1
    )
    assert torch.equal(image[:, 5, 7], background)
    assert image.shape == (3, 37, 45)
    assert alpha.abs().max() == 0
    assert depth is not None
    assert depth.abs().max() == 0
    assert radii.shape == (0,)
