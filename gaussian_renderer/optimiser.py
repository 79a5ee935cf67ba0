"""Adam over the parameters of a cloud whose rows come and go."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Gaussians

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-15  # 3DGS (Kerbl et al. 2023)


@dataclass(frozen=True)
class LearningRates:
    """Step sizes of one iteration; positions in world units, the rest as in 3DGS."""

    means: float
    log_scales: float = 0.005
    quaternions: float = 0.001
    opacity_logits: float = 0.05
    sh_constant: float = 0.0025  # coefficient 0
    sh_rest: float = 0.0025 / 20  # all higher coefficients

    def of(self, name: str, parameter: Tensor) -> Tensor | float:
        """Rate of one named parameter: a number, or [K, 1] for the SH coefficients."""
        if name != "sh":
            return float(getattr(self, name))
        rates = torch.full((parameter.shape[1], 1), self.sh_rest, dtype=parameter.dtype)
        rates[0] = self.sh_constant
        return rates.to(parameter.device)


class GaussianAdam:
    """Kingma & Ba 2015 with one pair of moments per parameter row; steps in place."""

    def __init__(self, gaussians: Gaussians) -> None:
        self.steps = 0
        self.first = gaussians.map(lambda t: torch.zeros_like(t.detach()))
        self.second = gaussians.map(lambda t: torch.zeros_like(t.detach()))

    @torch.no_grad()
    def step(self, gaussians: Gaussians, rates: LearningRates, threads: int = 1) -> None:
        """One update of `gaussians` from their .grad, which is cleared."""
        self.steps += 1
        update = _native_update() if gaussians.means.device.type == "cpu" else adam_update
        for name, parameter in gaussians.named_tensors().items():
            if parameter.grad is None:
                continue
            update(
                parameter, parameter.grad, getattr(self.first, name), getattr(self.second, name),
                rates.of(name, parameter), self.steps, threads,
            )  # fmt: skip
            parameter.grad = None

    def follow(self, source: Tensor, reset: tuple[str, ...] = ()) -> None:
        """Rearranges the moments as growth has rearranged the rows.

        `source` [N'] is the old row of every new row, or -1 for fresh moments; the moments of the
        parameters named in `reset` start anew.
        """
        fresh = source < 0
        for moments in (self.first, self.second):
            for name, old in moments.named_tensors().items():
                new = old[source.clamp_min(0)]
                new[fresh] = 0
                setattr(moments, name, torch.zeros_like(new) if name in reset else new)


def adam_update(
    parameter: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    rate: Tensor | float,  # broadcast against `parameter`
    step: int,  # 1 for the first update
    threads: int = 1,
) -> None:
    """One Adam update in place, in plain PyTorch: the definition."""
    first.lerp_(gradient, 1 - BETA1)
    second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    mean = first / (1 - BETA1**step)
    deviation = (second / (1 - BETA2**step)).sqrt_().add_(EPSILON)
    parameter.sub_(rate * mean / deviation)


def _native_update():  # type: ignore[no-untyped-def]
    """The fused kernel where it is installed, else the definition."""
    from .backends import available_backends

    if "cpu" not in available_backends("cpu"):
        return adam_update
    from .cpu import fused_adam_update

    return fused_adam_update
