"""The Triton loss against its definition: on a GPU if there is one, else in the interpreter."""

import pytest
import torch
from interpreted_triton import DEVICE

from gaussian_renderer.losses import photometric_loss_reference
from gaussian_renderer.triton.ssim import fused_photometric_loss as fused


@pytest.mark.parametrize("shape", [(2, 13, 140), (1, 7, 5)])
@pytest.mark.parametrize("ssim_weight", [0.2, 1.0])
def test_loss_and_gradient(shape: tuple[int, ...], ssim_weight: float) -> None:
    g = torch.Generator().manual_seed(0)
    image = torch.rand(shape, generator=g)
    target = (0.7 * image + 0.3 * torch.rand(shape, generator=g)).clamp(0, 1)
    target[:, :2, :3] = image[:, :2, :3]  # where they are equal, L1 has gradient 0
    ours = image.clone().to(DEVICE).requires_grad_(True)
    loss = fused(ours, target.to(DEVICE), ssim_weight)
    (3.0 * loss).backward()
    exact = image.double().requires_grad_(True)
    expected = photometric_loss_reference(exact, target.double(), ssim_weight)
    (3.0 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), abs=2e-6)
    assert ours.grad is not None
    assert exact.grad is not None
    difference = ours.grad.cpu().double() - exact.grad
    assert difference.norm() < 1e-4 * exact.grad.norm()
