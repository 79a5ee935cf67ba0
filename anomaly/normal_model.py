"""The normal model: what residuals of good images look like at every place of the object.

Anchored on the Gaussians: the residual memory of the train views (residual_memory.py) and the
second moments of what is left after its correction. Both are rendered at a query's pose. They are
learnt after training (fit_normal_model.py).
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer import ObjectRenderer, sh_colours
from scene import Camera
from scene.se3 import camera_centres

from .mahalanobis import Mahalanobis, extend_beyond_silhouette, outer
from .residual import SIGMA
from .residual_memory import Expectation, ResidualMemory
from .specular import FRAMES, Frame, cells, reflected
from .view_distance import ViewDistanceScale

_LEVELS = 127  # of an int8


@dataclass(frozen=True)
class PlaceMoments:
    """How large residuals are at each Gaussian, and how that changes with what it reflects."""

    common: Tensor  # [N, 6] second moments of the corrected residual (mahalanobis.py)
    normals: Tensor  # [N, 3] unit, zero where not known
    tables: dict[Frame, Tensor]  # specular.py, lamps before the object and beside the camera

    def at(self, model: ObjectRenderer, camera: Camera, gloss: Frame) -> Tensor:
        """Second moments to expect from a camera, or from several places of one, [..., N, 6]."""
        if gloss == "none":
            return self.common
        directions = reflected_directions(model, self.normals, camera, gloss)
        factors = self.tables[gloss][cells(directions)]
        known = self.normals.abs().amax(dim=1) > 0
        return self.common * torch.where(known, factors, torch.ones_like(factors))[..., None]

    def to(self, device: torch.device | str) -> "PlaceMoments":
        """The same on another device."""
        tables = {frame: table.to(device) for frame, table in self.tables.items()}
        return PlaceMoments(self.common.to(device), self.normals.to(device), tables)


@dataclass(frozen=True)
class NormalModel:
    """Per-Gaussian knowledge of the residuals of good images, and their unit."""

    memory: ResidualMemory
    moments: PlaceMoments
    mahalanobis: Mahalanobis
    distance_scale: ViewDistanceScale = field(default_factory=ViewDistanceScale)

    def to(self, device: torch.device | str) -> "NormalModel":
        """The same on another device, where everything below is then computed."""
        return replace(self, memory=self.memory.to(device), moments=self.moments.to(device))

    def arrays(self) -> dict[str, NDArray]:
        """Plain arrays for an npz file."""
        unit, scale, moments = self.mahalanobis, self.distance_scale, self.moments
        return self.memory.arrays() | {
            "common": moments.common.float().cpu().numpy(),
            "normals": (moments.normals * _LEVELS).round().to(torch.int8).cpu().numpy(),
            "gloss_object": moments.tables["object"].cpu().numpy(),
            "gloss_camera": moments.tables["camera"].cpu().numpy(),
            "gloss": np.array(unit.gloss),
            "mahalanobis": np.array([unit.near_weight, unit.correction_weight, unit.floor]),
            "distance_scale": np.array([scale.start, scale.reference, scale.largest]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray]) -> "NormalModel":
        """What `arrays` gave. Raises ValueError when something is missing or does not fit."""
        memory = ResidualMemory.from_arrays(arrays)
        try:
            moments = _moments_from(arrays)
            near, correction, floor = (float(value) for value in arrays["mahalanobis"])
            gloss = FRAMES[FRAMES.index(str(arrays["gloss"]))]
            scale = ViewDistanceScale(*(float(value) for value in arrays["distance_scale"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the normal model is damaged ({error})") from error
        if len(moments.common) != memory.residuals.shape[1]:
            raise ValueError("its moments and residuals are of different Gaussians")
        if not all(bool(t.isfinite().all()) for t in (moments.common, moments.normals)):
            raise ValueError("it holds NaN or infinity")
        return cls(memory, moments, Mahalanobis(near, correction, floor, gloss), scale)


def _moments_from(arrays: dict[str, NDArray]) -> PlaceMoments:
    tensors = {
        name: torch.from_numpy(arrays[name].astype(np.float32))
        for name in ("common", "normals", "gloss_object", "gloss_camera")
    }
    normals = torch.nn.functional.normalize(tensors["normals"], dim=1)
    tables: dict[Frame, Tensor] = {
        "object": tensors["gloss_object"],
        "camera": tensors["gloss_camera"],
    }
    return PlaceMoments(tensors["common"], normals, tables)


def reflected_directions(
    model: ObjectRenderer, normals: Tensor, camera: Camera, gloss: Frame
) -> Tensor:
    """What each Gaussian reflects [..., N, 3], in the frame in which the lamps stand still."""
    means = model.gaussians.means
    eyes = camera_centres(camera.world_to_camera).to(means, non_blocking=True)
    directions = reflected(means, normals.to(means), eyes)
    if gloss == "camera":
        view = camera.world_to_camera.to(means, non_blocking=True)
        directions = directions @ view[..., :3, :3].mT
    return directions


@dataclass(frozen=True)
class Prediction:
    """What a good object should look like in a query or several, and what is rendered with it."""

    image: Tensor  # [..., 3, H, W] the rendering, corrected by the memory
    alpha: Tensor  # [..., H, W]
    depth: Tensor  # [..., H, W] camera z, 0 where nothing was hit
    maps: Tensor  # [..., C, H, W] the other channels, extended beyond the silhouette
    scale: Tensor  # [...] of the scores of good images at this pose


@torch.no_grad()
def predict(
    model: ObjectRenderer,
    camera: Camera,  # at one place, or at B places [B, 4, 4]
    known: NormalModel,
    exclude: int | None = None,  # a view of the memory that must not speak: leave-one-out
) -> Prediction:
    """The object as the memory corrects it; `maps` is the residual's covariance [..., 6, H, W].

    With `known` on the device of the Gaussians, that device is not waited for.
    """
    rotations = camera.world_to_camera[..., :3, :3]
    expectation = known.memory.expect(rotations, exclude=exclude)
    covariance = known.mahalanobis.covariance(
        known.moments.at(model, camera, known.mahalanobis.gloss),
        expectation.covariance,
        outer(expectation.mean, dim=-1),
    )
    shown = render_corrected(model, camera, expectation, covariance)
    distances = [known.memory.distance(r, exclude) for r in rotations.reshape(-1, 3, 3)]
    scales = torch.tensor([known.distance_scale(distance) for distance in distances])
    scale = scales.reshape(rotations.shape[:-2]).to(shown.scale, non_blocking=True)
    return replace(shown, scale=scale)


@torch.no_grad()
def render_corrected(
    model: ObjectRenderer,
    camera: Camera,  # at one place, or at B places [B, 4, 4]
    expectation: Expectation,  # with the same leading dimensions
    channels: Tensor,  # [..., N, C] whatever else is to be rendered, over zero
) -> Prediction:
    """Renders the object with the memory's correction added to its colours."""
    gaussians, background = model.gaussians, model.background
    view = camera.world_to_camera.to(gaussians.means, non_blocking=True)
    points = gaussians.means @ view[..., :3, :3].mT + view[..., None, :3, 3]
    directions = torch.nn.functional.normalize(points @ view[..., :3, :3], dim=-1)
    colours = sh_colours(gaussians.sh, directions) + expectation.mean
    channels = channels.expand(*colours.shape[:-1], -1)
    behind = torch.cat([background, background.new_zeros(channels.shape[-1])])
    shown = model.views(camera, torch.cat([colours, channels], dim=-1), behind, depth=True)
    image, alpha = shown.images, shown.alphas
    assert shown.depths is not None
    # Smoothing carries residuals of the rim outwards, so what is normal there must follow.
    maps = extend_beyond_silhouette(image[..., 3:, :, :], alpha, SIGMA)
    one = torch.ones_like(alpha[..., 0, 0])
    return Prediction(image[..., :3, :, :].clamp(0.0, 1.0), alpha, shown.depths, maps, one)
