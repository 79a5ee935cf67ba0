"""What no capture holds: the CPU kernel neither crashes nor returns what is not finite."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cpu_scenes import camera, cloud, with_extremes
from torch import Tensor

from gaussian_renderer import pose_normal_equations, render
from gaussian_renderer.cpu import fused_adam, native, photometric_gradient
from gaussian_renderer.optimiser import AdamGroup
from scene import Camera, Gaussians, InputError

ROOT = Path(__file__).parent.parent
WHITE = torch.ones(3)


def _lone(**changes: object) -> Gaussians:
    """One visible Gaussian, with other values in some fields."""
    gaussian = cloud(1, seed=3)
    gaussian.means.fill_(0.05)
    for name, value in changes.items():
        tensor = getattr(gaussian, name)
        tensor.copy_(torch.as_tensor(value, dtype=torch.float32).expand_as(tensor))
    return gaussian


def _gradients(gaussians: Gaussians, view: Camera, backend: str = "cpu") -> dict[str, Tensor]:
    leaves = gaussians.map(torch.clone).requires_grad_()
    out = render(leaves, view, WHITE, backend=backend, depth=True)
    assert out.image.isfinite().all()
    (out.image.square().sum() + out.alpha.sum()).backward()
    return {name: tensor.grad for name, tensor in leaves.named_tensors().items()}


@pytest.mark.parametrize("x", [3e8, -3e8, 1e15, 1e30, -3e38])
@pytest.mark.parametrize("log_scale", [-3.0, 15.0])
def test_a_gaussian_projected_beyond_2_to_the_31_pixels_is_harmless(
    x: float, log_scale: float
) -> None:
    gradients = _gradients(_lone(means=[x, 0.0, 0.0], log_scales=log_scale), camera())
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_a_gaussian_beside_the_image_that_reaches_across_it_is_drawn() -> None:
    far = _lone(means=[1e9, 0.0, 0.0], log_scales=[24.0, 3.0, 3.0], quaternions=[1.0, 0, 0, 0])
    out = render(far, camera(), WHITE, backend="cpu")
    truth = render(far.map(Tensor.double), camera(), WHITE.double(), backend="reference")
    assert truth.alpha.min() > 0.1
    assert (out.alpha - truth.alpha).abs().max() < 1e-5


def test_more_pairs_than_32_bits_count_are_refused_by_name() -> None:
    count, side = 262_145, 4096
    everywhere = _lone(log_scales=6.0, opacity_logits=0.0).map(
        lambda t: t.expand(count, *t.shape[1:]).contiguous()
    )
    view = camera(side, side)
    with pytest.raises(InputError, match=r"262145 Gaussians on 4096 x 4096 pixels do not fit"):
        render(everywhere, view, WHITE, backend="cpu")
    with pytest.raises(InputError, match=r"4294983680 pairs of a Gaussian and a tile"):
        pose_normal_equations(everywhere, view, torch.zeros(3, side, side), WHITE, backend="cpu")


def test_pairs_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gaussian_renderer.cpu.rasteriser.memory", lambda: 1000)
    with pytest.raises(InputError, match="render a smaller image, or fewer or smaller Gaussians"):
        render(cloud(300), camera(), WHITE, backend="cpu")


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (1 << 21, 1), (1 << 20, 1 << 20)])
def test_image_sizes_that_cannot_be_rendered_are_named(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"the image has {size[0]} x {size[1]} pixels"):
        render(cloud(3), camera(*size), WHITE, backend="cpu")


def test_colours_without_a_channel_are_refused() -> None:
    nothing = torch.zeros(150, 0)
    with pytest.raises(InputError, match="no channel"):
        render(cloud(), camera(), torch.zeros(0), colours=nothing, backend="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"means": [0.0, 0.0, -2.7999], "log_scales": [30.0, -30.0, 2.0]},
        {"log_scales": [41.0, -20.0, -20.0]},
        {"quaternions": 0.0, "log_scales": [20.0, 0.0, -20.0]},
        {"quaternions": 1e-30, "log_scales": [3.0, 0.0, -3.0]},
        {"opacity_logits": 1e30},
        {"sh": 1e17},
        {"sh": 1e30},
    ],
)
@pytest.mark.parametrize("focal", [70.0, 1e-3, 1e12])
def test_gradients_of_finite_gaussians_are_finite(changes: dict[str, object], focal: float) -> None:
    lens = Camera(camera().world_to_camera, focal, focal, 33.0, 30.0, 70, 61)
    gaussians = _lone(**changes)
    gradients = _gradients(gaussians, lens)
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    found = pose_normal_equations(gaussians, lens, torch.rand(3, 61, 70), WHITE, backend="cpu")
    assert found.jtj.isfinite().all()
    assert found.jtr.isfinite().all()
    assert math.isfinite(found.loss)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gaussians_that_are_not_finite_change_nothing_and_get_no_gradient(backend: str) -> None:
    broken = with_extremes(cloud(40, degree=1, seed=5))
    gradients = _gradients(broken, camera(), backend)
    clean = _gradients(broken.map(lambda t: t[7:].clone()), camera(), backend)
    for name, gradient in gradients.items():
        assert (gradient[:7] == 0).all(), name
        assert torch.allclose(gradient[7:], clean[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("size", [1e5, 1e12, 1e38])
def test_the_loss_of_any_finite_images_is_finite(size: float) -> None:
    image, target = size * torch.rand(2, 3, 40, 33, generator=torch.Generator().manual_seed(1))
    for a, b in ((image, target), (image, -image), (torch.full_like(image, size), target)):
        loss, gradient = photometric_gradient(a, b)
        assert math.isfinite(loss)
        assert gradient.isfinite().all()


def test_the_loss_of_an_image_with_nan_is_nan() -> None:
    image = torch.rand(3, 40, 33, generator=torch.Generator().manual_seed(1))
    image[1, 20, 20] = math.nan
    loss, gradient = photometric_gradient(image, torch.zeros_like(image))
    assert math.isnan(loss)
    assert gradient[1, 20, 20].isnan()


def test_an_image_without_pixels_has_no_loss() -> None:
    with pytest.raises(InputError, match=r"image has shape \[3, 0, 5\]"):
        photometric_gradient(torch.zeros(3, 0, 5), torch.zeros(3, 0, 5))


def test_adam_takes_a_step_of_the_usual_length_from_a_gradient_whose_square_overflows() -> None:
    values, first, second = torch.zeros(3, 40, 2)
    gradient = torch.tensor([3e38, -1e25]).repeat(40, 1)
    fused_adam([AdamGroup(values, gradient, first, second, 0.01)], 1)
    assert torch.allclose(values, torch.tensor([-0.01, 0.01]).expand(40, 2))
    assert second.isfinite().all()


def test_adam_passes_over_an_empty_array() -> None:
    empty = torch.zeros(0, 3)
    fused_adam([AdamGroup(empty, empty.clone(), empty.clone(), empty.clone(), ())], 1)
    assert empty.shape == (0, 3)


def test_the_memory_of_this_machine_is_known() -> None:
    assert 1 << 28 < native.memory() <= 1 << 62


def test_random_extreme_clouds_break_no_rule() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "clouds", "--cases", "60", "--seed", "2"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed, 0 refused" in done.stdout
