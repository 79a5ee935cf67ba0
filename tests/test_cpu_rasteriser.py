"""The native rasteriser against the definition: images, every gradient, order of summation."""

import pytest
import torch
from cpu_scenes import camera, cloud, differentiate, relative_error, with_extremes

from gaussian_renderer import render
from scene import Gaussians, InputError

GRADIENT_ERROR = 1e-5  # relative L2, float32 kernel against float64 autograd
CASES = [  # SH degree, channels in place of colours, depth
    (0, None, False),
    (1, None, True),
    (2, None, False),
    (3, None, True),
    (0, 1, True),
    (0, 2, False),
    (0, 3, False),
    (0, 4, True),
    (0, 5, False),
    (0, 7, True),
    (0, 9, False),
]


@pytest.mark.parametrize(("degree", "channels", "depth"), CASES)
def test_image_and_gradients_match_the_reference(
    degree: int, channels: int | None, depth: bool
) -> None:
    gaussians = cloud(degree=degree)
    truth = differentiate(gaussians, "reference", channels, depth)
    found = differentiate(gaussians, "cpu", channels, depth)
    assert (found.rendering.image - truth.rendering.image).abs().max() < 1e-5
    assert (found.rendering.alpha - truth.rendering.alpha).abs().max() < 1e-5
    if depth:
        assert relative_error(found.rendering.depth, truth.rendering.depth) < 1e-5
    errors = {
        name: relative_error(gradient, truth.gradients[name])
        for name, gradient in found.gradients.items()
    }
    assert max(errors.values()) < GRADIENT_ERROR, errors


def test_radii_are_those_of_the_reference_inside_the_image() -> None:
    gaussians = cloud()
    truth = differentiate(gaussians, "reference").rendering.radii
    found = differentiate(gaussians, "cpu").rendering.radii
    drawn = found > 0
    assert drawn.sum() > 100
    assert ((found - truth)[drawn].abs() <= 1).all()


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    gaussians = cloud(3000, degree=3)
    one = differentiate(gaussians, "cpu", depth=True)
    many = differentiate(gaussians, "cpu", depth=True, threads=threads)
    assert torch.equal(one.rendering.image, many.rendering.image)
    assert torch.equal(one.rendering.alpha, many.rendering.alpha)
    for name, gradient in one.gradients.items():
        assert torch.equal(gradient, many.gradients[name]), name


def test_two_renderings_may_wait_for_their_backward_passes() -> None:
    clouds = [cloud(120, seed=1).requires_grad_(), cloud(180, seed=2).requires_grad_()]
    white = torch.ones(3)
    losses = [render(g, camera(), white, backend="cpu").image.square().sum() for g in clouds]
    for loss in losses:
        loss.backward()
    for gaussians in clouds:
        alone = gaussians.detach().map(torch.clone).requires_grad_()
        render(alone, camera(), white, backend="cpu").image.square().sum().backward()
        assert torch.equal(gaussians.means.grad, alone.means.grad)
        assert torch.equal(gaussians.sh.grad, alone.sh.grad)


def test_inference_gives_the_image_of_training() -> None:
    gaussians = cloud(degree=2)
    trained = render(gaussians.requires_grad_(), camera(), torch.ones(3), backend="cpu")
    with torch.no_grad():
        seen = render(gaussians, camera(), torch.ones(3), backend="cpu")
    assert torch.equal(trained.image, seen.image)
    assert not seen.image.requires_grad


@pytest.mark.parametrize("size", [(1, 1), (3, 65), (32, 32), (100, 33)])
def test_image_sizes(size: tuple[int, int]) -> None:
    view = camera(*size)
    truth = differentiate(cloud(), "reference", view=view)
    found = differentiate(cloud(), "cpu", view=view)
    assert (found.rendering.image - truth.rendering.image).abs().max() < 1e-5
    errors = [relative_error(found.gradients[k], v) for k, v in truth.gradients.items()]
    assert max(errors) < 3e-5


def _nothing_is_drawn(gaussians: Gaussians) -> None:
    leaves = gaussians.map(torch.clone).requires_grad_()
    background = torch.tensor([0.2, 0.4, 0.6])
    out = render(leaves, camera(), background, backend="cpu", depth=True)
    assert torch.equal(out.image, background[:, None, None].expand_as(out.image))
    assert out.alpha.abs().max() == 0
    assert out.depth is not None
    assert out.depth.abs().max() == 0
    assert (out.radii == 0).all()
    out.image.sum().backward()
    for name, tensor in leaves.named_tensors().items():
        assert tensor.grad is not None
        assert (tensor.grad == 0).all(), name


def test_an_empty_cloud_gives_the_background() -> None:
    _nothing_is_drawn(cloud(0))


def test_gaussians_behind_the_camera_are_not_drawn() -> None:
    gaussians = cloud(degree=1)
    gaussians.means[:, 2] -= 10.0
    _nothing_is_drawn(gaussians)


def test_transparent_gaussians_are_not_drawn() -> None:
    gaussians = cloud()
    gaussians.opacity_logits.fill_(-7.0)
    _nothing_is_drawn(gaussians)


@pytest.mark.parametrize("log_scale", [-12.0, 0.0, 4.0])
def test_one_gaussian_of_any_size(log_scale: float) -> None:
    gaussians = cloud(1, seed=3)
    gaussians.means.fill_(0.05)
    gaussians.log_scales.fill_(log_scale)
    truth = differentiate(gaussians, "reference")
    found = differentiate(gaussians, "cpu")
    assert found.rendering.alpha.max() > 0.1
    assert (found.rendering.image - truth.rendering.image).abs().max() < 1e-5
    for name in ("sh", "opacity_logits"):
        assert relative_error(found.gradients[name], truth.gradients[name]) < 1e-4


def test_more_splats_on_a_tile_than_fit_in_one_batch() -> None:
    gaussians = cloud(1500, seed=4)
    gaussians.opacity_logits -= 3.0  # so that no pixel is closed early
    gaussians.means *= 0.3
    truth = differentiate(gaussians, "reference")
    found = differentiate(gaussians, "cpu")
    off = (found.rendering.image - truth.rendering.image).abs()
    assert off.quantile(0.99) < 1e-5  # a splat at alpha = 1/255 may fall on either side
    assert relative_error(found.gradients["sh"], truth.gradients["sh"]) < 1e-3


def test_gaussians_that_are_not_finite_are_left_out() -> None:
    clean = cloud(40, degree=1, seed=5)
    broken = with_extremes(clean).requires_grad_()
    rest = clean.map(lambda t: t[7:].clone()).requires_grad_()
    out = render(broken, camera(), torch.ones(3), backend="cpu", depth=True)
    expected = render(rest, camera(), torch.ones(3), backend="cpu", depth=True)
    assert torch.equal(out.image, expected.image)
    assert (out.radii[:7] == 0).all()
    out.image.sum().backward()
    expected.image.sum().backward()
    for name, tensor in broken.named_tensors().items():
        assert tensor.grad is not None
        assert (tensor.grad[:7] == 0).all(), name
        # The rest lies elsewhere in its registers, but is the same arithmetic.
        assert relative_error(tensor.grad[7:], getattr(rest, name).grad) < 1e-6, name


def test_wrong_inputs_are_named() -> None:
    gaussians, white = cloud(), torch.ones(3)
    with pytest.raises(InputError, match="float32"):
        render(gaussians.map(torch.Tensor.double), camera(), white, backend="cpu")
    with pytest.raises(InputError, match=r"background has shape \[2\]"):
        render(gaussians, camera(), torch.ones(2), backend="cpu")
    gaussians.quaternions = gaussians.quaternions[:, :3]
    with pytest.raises(InputError, match=r"quaternions has shape \[150, 3\]"):
        render(gaussians, camera(), white, backend="cpu")
    odd = cloud(degree=1)
    odd.sh = odd.sh[:, :3]
    with pytest.raises(InputError, match="expected 1, 4, 9 or 16"):
        render(odd, camera(), white, backend="cpu")
