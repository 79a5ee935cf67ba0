"""The fused loss and the fused optimiser against PyTorch in float64."""

import pytest
import torch
from cpu_scenes import relative_error

from gaussian_renderer import photometric_loss
from gaussian_renderer.cpu import fused_adam, fused_photometric_loss, photometric_gradient
from gaussian_renderer.losses import photometric_loss_reference
from gaussian_renderer.optimiser import AdamGroup, adam_reference
from scene import InputError

SIZES = [(3, 61, 70), (1, 16, 16), (3, 5, 7), (4, 100, 33), (1, 1, 1)]


def _pair(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    target = torch.rand(shape, generator=generator)
    return target + 0.1 * torch.randn(shape, generator=generator), target


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("ssim_weight", [0.0, 0.2, 1.0])
def test_loss_and_gradient_match_the_reference(
    shape: tuple[int, int, int], ssim_weight: float
) -> None:
    image, target = _pair(shape)
    leaf = image.clone().requires_grad_()
    loss = fused_photometric_loss(leaf, target, ssim_weight)
    (3.0 * loss).backward()
    exact = image.double().requires_grad_()
    truth = photometric_loss_reference(exact, target.double(), ssim_weight)
    (3.0 * truth).backward()
    assert float(loss.detach()) == pytest.approx(float(truth.detach()), rel=1e-5)
    assert relative_error(leaf.grad, exact.grad) < 1e-5


def test_equal_images_have_no_loss() -> None:
    _, target = _pair((3, 40, 50))
    loss, gradient = photometric_gradient(target, target)
    assert abs(loss) < 1e-6
    assert gradient.abs().max() < 1e-6


def _islands() -> tuple[torch.Tensor, torch.Tensor]:
    """Images [3, 203, 150] that differ in a few places only, one of them a single pixel."""
    image, target = _pair((3, 203, 150))
    differs = torch.zeros(target.shape, dtype=torch.bool)
    differs[0, 90:131, 40:77] = True
    differs[0, 20, 3] = True
    differs[1, 0, 149] = True
    differs[1, 202, 0] = True
    return torch.where(differs, image, target), target


def test_loss_of_images_that_agree_almost_everywhere_matches_the_reference() -> None:
    image, target = _islands()
    loss, gradient = photometric_gradient(image, target)
    exact = image.double().requires_grad_()
    truth = photometric_loss_reference(exact, target.double())
    truth.backward()
    assert loss == pytest.approx(float(truth.detach()), rel=1e-5)
    assert relative_error(gradient, exact.grad) < 1e-5
    assert (gradient - exact.grad).abs().max() < 1e-5 * gradient.abs().max()


def test_loss_does_not_hide_a_pixel_that_is_no_number() -> None:
    _, target = _pair((3, 64, 64))
    image = target.clone()
    image[1, 30, 31] = float("nan")
    loss, gradient = photometric_gradient(image, target)
    assert loss != loss
    assert gradient.isnan().any()


@pytest.mark.parametrize("islands", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
def test_loss_has_the_same_bits_for_any_number_of_threads(threads: int, islands: bool) -> None:
    image, target = _islands() if islands else _pair((3, 203, 90))
    one, gradient = photometric_gradient(image, target)
    many, gradients = photometric_gradient(image, target, threads=threads)
    assert one == many
    assert torch.equal(gradient, gradients)


def test_front_door_takes_the_fused_loss_on_the_cpu() -> None:
    image, target = _pair((3, 20, 20))
    assert torch.equal(photometric_loss(image, target), fused_photometric_loss(image, target))


def test_loss_refuses_what_it_cannot_do() -> None:
    image, target = _pair((3, 20, 20))
    with pytest.raises(InputError, match="no gradient by the target"):
        fused_photometric_loss(image, target.requires_grad_())
    with pytest.raises(InputError, match="target has shape"):
        fused_photometric_loss(image, target.detach()[:, :-1])


RATES = [((101, 3), 0.01), ((57,), 0.02), ((33, 16, 3), [0.1] * 3 + [0.01] * 45),
         ((5, 4), [0.1, 0.2, 0.3, 0.4]), ((0, 3), 0.1)]  # fmt: skip


@pytest.mark.parametrize(("shape", "rate"), RATES)
@pytest.mark.parametrize("threads", [1, 2])
def test_adam_matches_torch(
    shape: tuple[int, ...], rate: float | list[float], threads: int
) -> None:
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(shape, generator=generator)
    group = AdamGroup(values, None, torch.zeros(shape), torch.zeros(shape), rate)
    exact = values.double().requires_grad_()
    rates = torch.tensor(rate, dtype=torch.float64)
    optimiser = torch.optim.Adam([exact], lr=1.0, eps=1e-15)
    start = exact.detach().clone()
    moved = start.clone()
    for step in range(1, 8):
        group.gradient = torch.randn(shape, generator=generator)
        exact.grad = group.gradient.double()
        before = exact.detach().clone()
        optimiser.step()
        # torch knows one rate per array: with a rate of one, its step is the update itself.
        update = (exact.detach() - before).reshape(-1, rates.numel()) * rates
        moved += update.reshape(shape)
        fused_adam([group], step, threads=threads)
    if values.numel():
        assert relative_error(values - start.float(), moved - start) < 1e-5


def test_adam_reference_is_the_same_step() -> None:
    fused, plain = (
        AdamGroup(
            torch.linspace(-1, 1, 12).reshape(4, 3), torch.linspace(1, 2, 12).reshape(4, 3),
            torch.zeros(4, 3), torch.zeros(4, 3), [0.1, 0.2, 0.3],
        )
        for _ in range(2)
    )  # fmt: skip
    for step in (1, 2, 3):
        fused_adam([fused], step)
        adam_reference([plain], step)
    assert torch.allclose(fused.values, plain.values, rtol=1e-6)
    assert torch.allclose(fused.second, plain.second, rtol=1e-6)


def test_adam_leaves_groups_without_gradient_alone() -> None:
    group = AdamGroup(torch.ones(3), None, torch.zeros(3), torch.zeros(3), 0.1)
    fused_adam([group], 1)
    assert torch.equal(group.values, torch.ones(3))


def test_adam_refuses_views_and_wrong_rates() -> None:
    strided = torch.ones(4, 6)[:, ::2]
    zeros = torch.zeros(4, 3)
    with pytest.raises(InputError, match="not contiguous"):
        fused_adam([AdamGroup(strided, zeros, zeros, zeros, 0.1)], 1)
    with pytest.raises(InputError, match="learning rates"):
        fused_adam([AdamGroup(zeros.clone(), zeros, zeros, zeros, [0.1, 0.2])], 1)
