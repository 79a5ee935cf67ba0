"""What normal looks like at every place of the object: learnt after training, used by detection.

Anchored on the Gaussians: the residual memory of the train views (`anomaly.ResidualMemory`) and
the mean residual that is left after its correction. Both are rendered at a query's pose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomaly import Features, ResidualMemory, Standardisation, extend_beyond_silhouette
from anomaly.filters import gaussian_blur
from gaussian_renderer.object_renderer import ObjectRenderer
from gaussian_renderer.spherical_harmonics import sh_colours
from scene import Camera

_PRIOR_PIXELS = 4.0  # evidence with which a Gaussian's mean residual is drawn to the object's
_HALF_WEIGHT = 0.5  # pixels at which a view counts as having half seen a Gaussian


@dataclass(frozen=True)
class Normality:
    """Per-Gaussian knowledge of innocent residuals, and their unit."""

    memory: ResidualMemory
    expected: Tensor  # [N] mean square root of the corrected residual
    standardisation: Standardisation

    def arrays(self) -> dict[str, NDArray]:
        """Plain arrays for an npz file."""
        unit = self.standardisation
        return self.memory.arrays() | {
            "expected": self.expected.half().cpu().numpy(),
            "standardisation": np.array([unit.spread_weight, unit.floor]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray]) -> "Normality":
        """What `arrays` gave. Raises ValueError when something is missing or does not fit."""
        memory = ResidualMemory.from_arrays(arrays)
        try:
            expected = torch.from_numpy(arrays["expected"].astype(np.float32))
            spread_weight, floor = (float(value) for value in arrays["standardisation"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"the calibration is damaged ({error}): train again") from error
        return cls(memory, expected, Standardisation(spread_weight, floor))


@dataclass(frozen=True)
class Prediction:
    """What a good object should look like in a query, and how sure that is."""

    image: Tensor  # [3, H, W] the rendering, corrected by the memory
    alpha: Tensor  # [H, W]
    spread: Tensor  # [H, W] standard deviation of the corrected colour
    expected: Tensor  # [H, W] mean square root of the residual that is left


@torch.no_grad()
def predict(
    model: ObjectRenderer,
    camera: Camera,
    memory: ResidualMemory,
    expected: Tensor | None,  # [N]
    sigma: float,  # pixels by which residual maps are smoothed
    exclude: int | None = None,  # a train view that must not speak: leave-one-out
) -> Prediction:
    """Renders the object as the memory corrects it, with spread and expected residual."""
    gaussians, background = model.gaussians, model.background
    view = camera.world_to_camera.to(gaussians.means)
    expectation = memory.expect(camera.world_to_camera[:3, :3], exclude=exclude)
    points = gaussians.means @ view[:3, :3].T + view[:3, 3]
    directions = torch.nn.functional.normalize(points @ view[:3, :3], dim=-1)
    colours = sh_colours(gaussians.sh, directions) + expectation.mean.to(points)
    extra = torch.zeros(len(points), 2, dtype=points.dtype, device=points.device)
    extra[:, 0] = expectation.spread.to(points)
    if expected is not None:
        extra[:, 1] = expected.to(points)
    shown = model.channels(
        camera, torch.cat([colours, extra], dim=1), torch.cat([background, extra.new_zeros(2)])
    )
    # Smoothing carries residuals of the rim outwards, so what is normal there must follow.
    spread, normal = extend_beyond_silhouette(shown.image[3:5], shown.alpha, sigma)
    return Prediction(shown.image[:3].clamp(0.0, 1.0), shown.alpha, spread, normal)


@torch.no_grad()
def residual_map(features: Features, query: Tensor, image: Tensor) -> Tensor:
    """Smoothed squared difference [H, W] of two images [3, H, W]."""
    return gaussian_blur(features.difference(query[None], image[None])[0], features.sigma)


@torch.no_grad()
def build_memory(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # [3, H, W] each
) -> ResidualMemory:
    """The residuals of all train views at their known poses."""

    def residuals() -> Iterator[tuple[Tensor, Tensor]]:
        for camera, image in zip(cameras, images, strict=True):
            mean, weight = model.splat(camera, image - model(camera).image.clamp(0.0, 1.0))
            yield mean.cpu(), weight.cpu()

    rotations = torch.stack([camera.world_to_camera[:3, :3] for camera in cameras])
    return ResidualMemory.build(rotations, residuals(), half_weight=_HALF_WEIGHT)


@torch.no_grad()
def expected_residual(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    roots: Sequence[Tensor],  # [H, W] each: square root of the residual of a good view
) -> Tensor:
    """Mean root residual of each Gaussian over the views, drawn to that of the object, [N]."""
    total = torch.zeros(len(model.gaussians), device=model.gaussians.means.device)
    weights = torch.zeros_like(total)
    for camera, root in zip(cameras, roots, strict=True):
        mean, weight = model.splat(camera, root[None])
        total += mean[:, 0] * weight
        weights += weight
    overall = total.sum() / weights.sum().clamp_min(1e-12)
    return (total + _PRIOR_PIXELS * overall) / (weights + _PRIOR_PIXELS)
