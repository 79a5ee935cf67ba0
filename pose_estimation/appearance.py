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
        """[N, 3]."""
        ...


class Appearance(Protocol):
    """Knows the object's residuals (anomaly.ResidualMemory)."""

    def expect(self, rotation: Tensor) -> Expected:
        """What to expect from a camera with this rotation [3, 3], world to camera."""
        ...


@torch.no_grad()
def corrected(
    model: ObjectRenderer, appearance: Appearance, world_to_camera: Tensor
) -> ObjectRenderer:
    """The object in the colours that are to be expected from about `world_to_camera` [4, 4]."""
    expected = appearance.expect(world_to_camera[:3, :3])
    sh = model.gaussians.sh.clone()
    sh[:, 0] += expected.mean.to(sh) / C0
    return replace(model, gaussians=replace(model.gaussians, sh=sh))
