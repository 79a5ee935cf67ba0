"""The object model: a cloud of 3D Gaussians. Raw parameters only; no optimiser, no renderer."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

SH_CONSTANT = 0.28209479177387814  # Y_00 = 1 / (2 sqrt(pi)): colour = 0.5 + Y_00 * coefficient


@dataclass
class Gaussians:
    """Parameters as they are optimised and stored (Kerbl et al. 2023); activations are properties.

    `sh` holds (degree + 1)^2 spherical-harmonics coefficients per colour, the constant one first.
    """

    means: Tensor  # [N, 3] world units
    log_scales: Tensor  # [N, 3]
    quaternions: Tensor  # [N, 4] wxyz, any length but zero
    opacity_logits: Tensor  # [N]
    sh: Tensor  # [N, K, 3]

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def scales(self) -> Tensor:
        """Standard deviations along the three axes, [N, 3], world units."""
        return self.log_scales.exp()

    @property
    def rotations(self) -> Tensor:
        """Unit quaternions wxyz, [N, 4]."""
        return torch.nn.functional.normalize(self.quaternions, dim=-1)

    @property
    def opacities(self) -> Tensor:
        """[N], 0 to 1."""
        return self.opacity_logits.sigmoid()

    @property
    def sh_degree(self) -> int:
        """0 to 3."""
        return int(self.sh.shape[1] ** 0.5) - 1

    def named_tensors(self) -> dict[str, Tensor]:
        """Field name to tensor, in the order of declaration."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def map(self, function: Callable[[Tensor], Tensor]) -> "Gaussians":
        """A new cloud with `function` applied to every tensor (move, cast, index, clone)."""
        return Gaussians(**{name: function(t) for name, t in self.named_tensors().items()})

    def detach(self) -> "Gaussians":
        """The same values, cut from any graph."""
        return self.map(Tensor.detach)

    def requires_grad_(self) -> "Gaussians":
        """Marks every tensor as a leaf to be optimised; returns self."""
        for tensor in self.named_tensors().values():
            tensor.requires_grad_(True)
        return self


def rotation_matrices(unit_quaternions: Tensor) -> Tensor:
    """Unit quaternions wxyz [..., 4] to rotation matrices [..., 3, 3]."""
    w, x, y, z = unit_quaternions.unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*unit_quaternions.shape[:-1], 3, 3)
