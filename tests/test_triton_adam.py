"""Adam as a Triton kernel against its definition."""

import pytest
import torch
from interpreted_triton import DEVICE

from gaussian_renderer.optimiser import AdamGroup, adam_reference
from gaussian_renderer.triton.adam import fused_adam

RATES = ([0.0025] * 3 + [0.0001] * 9, 0.05)


def groups(dtype: torch.dtype, device: str) -> list[AdamGroup]:
    """Two arrays with gradients and one without."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(device, dtype)

    made = [
        AdamGroup(normal(*shape), normal(*shape), 0.1 * normal(*shape), normal(*shape) ** 2, rate)
        for shape, rate in (((110, 4, 3), RATES[0]), ((7, 3), RATES[1]))
    ]
    still = AdamGroup(normal(3, 2), None, normal(3, 2), normal(3, 2), 1.0)
    return [*made, still]


def test_steps_are_those_of_the_definition() -> None:
    ours, exact = groups(torch.float32, DEVICE), groups(torch.float64, "cpu")
    for step in (1, 2, 3):
        fused_adam(ours, step, epsilon=1e-8)
        adam_reference(exact, step, epsilon=1e-8)
    for found, expected in zip(ours, exact, strict=True):
        for name in ("values", "first", "second"):
            torch.testing.assert_close(
                getattr(found, name).cpu().double(), getattr(expected, name), rtol=1e-5, atol=1e-6
            )


def test_more_than_two_rates_are_refused() -> None:
    group = groups(torch.float32, DEVICE)[1]
    group.rate = [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match="more than two learning rates"):
        fused_adam([group], 1)
