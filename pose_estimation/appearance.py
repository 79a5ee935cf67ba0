"""What the model cannot show: colours that are known to be off from one direction.

Gloss moves over a surface while the camera moves, and splats cannot follow it; left alone, it pulls
the pose along. Near train views tell where to expect it.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from gaussian_renderer.spherical_harmonics import C0


class Expected(Protocol):
    """Residuals, query minus rendering, of N Gaussians."""

    @property
    def mean(self) -> Tensor:
        """[..., N, 3], on the device of the Gaussians."""
        ...


class Appearance(Protocol):
    """Knows the object's residuals (anomaly.ResidualMemory)."""

    def expect(self, rotation: Tensor) -> Expected:
        """What to expect from cameras with these rotations [..., 3, 3], world to camera."""
        ...


@torch.no_grad()
def expected_constants(
    model: ObjectRenderer, appearance: Appearance, world_to_camera: Tensor
) -> Tensor:
    """Constant parts [..., N, 3] of the colours to expect from about `world_to_camera` [..., 4, 4].

    They are meant for the place of the Gaussians' own `sh[:, 0]`.
    """
    return model.gaussians.sh[:, 0] + appearance.expect(world_to_camera[..., :3, :3]).mean / C0


def corrected(
    model: ObjectRenderer, appearance: Appearance, world_to_camera: Tensor
) -> ObjectRenderer:
    """The object in the colours that are to be expected from about `world_to_camera` [4, 4]."""
    constant = expected_constants(model, appearance, world_to_camera)
    sh = torch.cat([constant[:, None], model.gaussians.sh[:, 1:]], dim=1)
    return replace(model, gaussians=replace(model.gaussians, sh=sh))
