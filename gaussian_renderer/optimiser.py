"""Adam over the parameters of a cloud whose rows come and go."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from scene import Gaussians, InputError, carry

from .backends import fused

EPSILON = 1e-15  # 3DGS (Kerbl et al. 2023)


@dataclass
class AdamGroup:
    """One array with its moments; all are changed in place."""

    values: Tensor  # [N, ...] float32
    gradient: Tensor | None  # like values; None: the group is left alone
    first: Tensor  # like values, running mean of the gradient
    second: Tensor  # like values, running mean of its square
    rate: float | Sequence[float]  # learning rate, or one for each value of a row

    def rates(self) -> tuple[float, ...]:
        """One rate, or one for each value of a row. Raises InputError when they do not fit."""
        if isinstance(self.rate, int | float):
            return (float(self.rate),)
        columns = self.values[0].numel() if len(self.values) else len(self.rate)
        if len(self.rate) != columns:
            raise InputError(
                f"{len(self.rate)} learning rates for rows of {columns} values: give one each, "
                "or a single number"
            )
        return tuple(float(rate) for rate in self.rate)


@dataclass(frozen=True)
class LearningRates:
    """Step sizes of one iteration; positions in world units, the rest as in 3DGS."""

    means: float
    log_scales: float = 0.005
    quaternions: float = 0.001
    opacity_logits: float = 0.05
    sh_constant: float = 0.0025  # coefficient 0
    sh_rest: float = 0.0025 / 20  # all higher coefficients

    def scaled(self, factor: float) -> "LearningRates":
        """All rates but the positions' multiplied by `factor`."""
        others = {f.name: getattr(self, f.name) * factor for f in fields(self) if f.name != "means"}
        return replace(self, **others)

    def of(self, name: str, parameter: Tensor) -> float | list[float]:
        """Rate of one named parameter, or of each value of a row of SH coefficients."""
        if name != "sh":
            return float(getattr(self, name))
        channels = parameter.shape[2]
        rest = (parameter.shape[1] - 1) * channels
        return [self.sh_constant] * channels + [self.sh_rest] * rest


def adam_reference(
    groups: Sequence[AdamGroup],
    step: int,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-15,
    threads: int = 1,
) -> None:
    """One step of Adam with bias correction (Kingma & Ba 2015) in plain PyTorch, in place.

    The definition, for any type and device; `threads` is left to PyTorch.
    """
    for group in groups:
        if group.gradient is None:
            continue
        values = group.values.detach()
        rates = torch.tensor(group.rates(), dtype=values.dtype, device=values.device)
        group.first.lerp_(group.gradient, 1 - betas[0])
        group.second.lerp_(group.gradient.square(), 1 - betas[1])
        mean = group.first / (1 - betas[0] ** step)
        root = (group.second / (1 - betas[1] ** step)).sqrt() + epsilon
        update = (mean / root).reshape(-1, len(rates)) * rates
        values -= update.reshape(values.shape)


class GaussianAdam:
    """Kingma & Ba 2015 with one pair of moments per parameter row; steps in place."""

    def __init__(self, gaussians: Gaussians) -> None:
        self.steps = 0
        self.first = gaussians.map(lambda t: torch.zeros_like(t.detach()))
        self.second = gaussians.map(lambda t: torch.zeros_like(t.detach()))

    def step(
        self,
        gaussians: Gaussians,
        rates: LearningRates,
        threads: int = 1,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        """One update of `gaussians` from their .grad, which is cleared."""
        self.steps += 1
        parameters = gaussians.named_tensors()
        groups = [
            AdamGroup(
                parameter.detach(), parameter.grad, getattr(self.first, name),
                getattr(self.second, name), rates.of(name, parameter),
            )
            for name, parameter in parameters.items()
        ]  # fmt: skip
        adam = fused("adam", gaussians.means) or adam_reference
        adam(groups, self.steps, betas, EPSILON, threads)
        for parameter in parameters.values():
            parameter.grad = None

    def follow(self, source: Tensor, reset: tuple[str, ...] = ()) -> None:
        """Rearranges the moments as growth has rearranged the rows.

        `source` [N'] is the old row of every new row, or -1 for fresh moments; the moments of the
        parameters named in `reset` start anew.
        """
        self.first, self.second = (
            moments.map(lambda old: carry(old, source)) for moments in (self.first, self.second)
        )
        for name in reset:
            getattr(self.first, name).zero_()
            getattr(self.second, name).zero_()


@torch.no_grad()
def shrink_view_dependence(
    gaussians: Gaussians,
    amount: float,  # sum over steps of learning rate x weight decay
) -> None:
    """Decoupled weight decay (Loshchilov & Hutter 2019) of the higher SH coefficients, in place.

    Few views leave them undetermined, and they would learn noise. Degree l shrinks by
    exp(-amount l (l + 1) / 6): in proportion to the Laplacian's eigenvalue, so that the colour
    stays smooth over the sphere of viewing directions. 1 / 6 makes degree 2 the unit.
    """
    if amount == 0.0 or gaussians.sh.shape[1] == 1:
        return
    degrees = [math.isqrt(place) for place in range(gaussians.sh.shape[1])]
    factors = [math.exp(-amount * degree * (degree + 1) / 6.0) for degree in degrees]
    gaussians.sh.mul_(gaussians.sh.new_tensor(factors)[None, :, None])
