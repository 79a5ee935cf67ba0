"""What normal looks like at every place of the object, and how a query compares with it.

Anchored on the Gaussians: the residual memory of the train views (`anomaly.ResidualMemory`) and
the second moments of what is left after its correction. Both are rendered at a query's pose. They
are learnt after training (learn_normal_model.py).
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from gaussian_renderer.spherical_harmonics import sh_colours
from scene import Camera
from scene.se3 import camera_centres

from .mahalanobis import Standardisation, extend_beyond_silhouette, outer
from .masked import masked_median, surely_none
from .photometric import fit_photometry
from .residual import ClassicalFeatures, signed_residual
from .residual_memory import Expectation, ResidualMemory
from .specular import FRAMES, Frame, cells, mirrored
from .view_distance import GapLevel

_LEVELS = 127  # of an int8
_OBJECT_ALPHA = 0.5  # where the object covers at least so much of a pixel, colours are compared
_EMPTY_ALPHA = 0.05  # where it covers less, the background is seen


@dataclass(frozen=True)
class Place:
    """How large residuals are at each Gaussian, and how that changes with what it mirrors."""

    common: Tensor  # [N, 6] second moments of the corrected residual (mahalanobis.py)
    normals: Tensor  # [N, 3] unit, zero where not known
    tables: dict[Frame, Tensor]  # specular.py, lamps before the object and beside the camera

    def moments(self, model: ObjectRenderer, camera: Camera, gloss: Frame) -> Tensor:
        """Second moments to expect from a camera, or from several places of one, [..., N, 6]."""
        if gloss == "none":
            return self.common
        factors = self.tables[gloss][cells(mirrored_directions(model, self.normals, camera, gloss))]
        known = self.normals.abs().amax(dim=1) > 0
        return self.common * torch.where(known, factors, torch.ones_like(factors))[..., None]

    def to(self, device: torch.device | str) -> "Place":
        """The same on another device."""
        tables = {frame: table.to(device) for frame, table in self.tables.items()}
        return Place(self.common.to(device), self.normals.to(device), tables)


@dataclass(frozen=True)
class Normality:
    """Per-Gaussian knowledge of innocent residuals, and their unit."""

    memory: ResidualMemory
    place: Place
    standardisation: Standardisation
    level: GapLevel = field(default_factory=GapLevel)  # of scores at the gap to the nearest view

    def __call__(
        self,
        residual: Tensor,  # [..., 3, H, W], of `compare`
        shown: "Prediction",  # of `predict`
    ) -> Tensor:
        """The anomaly map [..., H, W] of a query, or of several."""
        return self.standardisation(residual, shown.maps) / shown.level[..., None, None]

    def to(self, device: torch.device | str) -> "Normality":
        """The same on another device, where everything below is then computed."""
        return replace(self, memory=self.memory.to(device), place=self.place.to(device))

    def arrays(self) -> dict[str, NDArray]:
        """Plain arrays for an npz file."""
        unit, level = self.standardisation, self.level
        return self.memory.arrays() | {
            "common": self.place.common.float().cpu().numpy(),
            "normals": (self.place.normals * _LEVELS).round().to(torch.int8).cpu().numpy(),
            "gloss_object": self.place.tables["object"].cpu().numpy(),
            "gloss_camera": self.place.tables["camera"].cpu().numpy(),
            "gloss": np.array(unit.gloss),
            "standardisation": np.array([unit.near_weight, unit.correction_weight, unit.floor]),
            "level": np.array([level.start, level.reference, level.largest]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray]) -> "Normality":
        """What `arrays` gave. Raises ValueError when something is missing or does not fit."""
        memory = ResidualMemory.from_arrays(arrays)
        try:
            place = _place_from(arrays)
            near, correction, floor = (float(value) for value in arrays["standardisation"])
            gloss = FRAMES[FRAMES.index(str(arrays["gloss"]))]
            level = GapLevel(*(float(value) for value in arrays["level"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the calibration is damaged ({error})") from error
        return cls(memory, place, Standardisation(near, correction, floor, gloss), level)


def _place_from(arrays: dict[str, NDArray]) -> Place:
    tensors = {
        name: torch.from_numpy(arrays[name].astype(np.float32))
        for name in ("common", "normals", "gloss_object", "gloss_camera")
    }
    normals = torch.nn.functional.normalize(tensors["normals"], dim=1)
    tables: dict[Frame, Tensor] = {
        "object": tensors["gloss_object"],
        "camera": tensors["gloss_camera"],
    }
    return Place(tensors["common"], normals, tables)


def mirrored_directions(
    model: ObjectRenderer, normals: Tensor, camera: Camera, gloss: Frame
) -> Tensor:
    """What each Gaussian mirrors [..., N, 3], in the frame in which the lamps stand still."""
    means = model.gaussians.means
    eyes = camera_centres(camera.world_to_camera).to(means, non_blocking=True)
    directions = mirrored(means, normals.to(means), eyes)
    if gloss == "camera":
        view = camera.world_to_camera.to(means, non_blocking=True)
        directions = directions @ view[..., :3, :3].mT
    return directions


@dataclass(frozen=True)
class Prediction:
    """What a good object should look like in a query or several, and what is rendered with it."""

    image: Tensor  # [..., 3, H, W] the rendering, corrected by the memory
    alpha: Tensor  # [..., H, W]
    maps: Tensor  # [..., C, H, W] the other channels, extended beyond the silhouette
    level: Tensor  # [...] of the scores of good images at this pose


@torch.no_grad()
def predict(
    model: ObjectRenderer,
    camera: Camera,  # at one place, or at B places [B, 4, 4]
    known: Normality,
    exclude: int | None = None,  # a view of the memory that must not speak: leave-one-out
) -> Prediction:
    """The object as the memory corrects it; `maps` is the residual's covariance [..., 6, H, W].

    With `known` on the device of the Gaussians, that device is not waited for.
    """
    rotations = camera.world_to_camera[..., :3, :3]
    expectation = known.memory.expect(rotations, exclude=exclude)
    covariance = known.standardisation.covariance(
        known.place.moments(model, camera, known.standardisation.gloss),
        expectation.covariance,
        outer(expectation.mean, dim=-1),
    )
    shown = corrected(model, camera, expectation, covariance)
    gaps = [known.memory.gap(rotation, exclude) for rotation in rotations.reshape(-1, 3, 3)]
    level = torch.tensor([known.level(gap) for gap in gaps]).reshape(rotations.shape[:-2])
    return replace(shown, level=level.to(shown.level, non_blocking=True))


@torch.no_grad()
def corrected(
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
    shown = model.views(camera, torch.cat([colours, channels], dim=-1), behind)
    image, alpha = shown.images, shown.alphas
    # Smoothing carries residuals of the rim outwards, so what is normal there must follow.
    maps = extend_beyond_silhouette(image[..., 3:, :, :], alpha, ClassicalFeatures.sigma)
    level = torch.ones_like(alpha[..., 0, 0])
    return Prediction(image[..., :3, :, :].clamp(0.0, 1.0), alpha, maps, level)


@torch.no_grad()
def compare(image: Tensor, shown: Prediction) -> tuple[Tensor, Tensor]:
    """The rendering in the light of a query, and the signed residual, both [..., 3, H, W].

    A change of the lamp leaves a plain background as it is, a change of the camera's exposure does
    not: what fits the pixels beside the object better is taken. The residual is given in the light
    of the train views, where what is normal was measured: a brighter query would otherwise seem
    full of defects, and a darker one would hide them.
    """
    light = fit_photometry(image, shown.image, shown.alpha > _OBJECT_ALPHA)
    rendering = shown.image
    if not surely_none(light.significant):
        changed, empty = light(rendering), (shown.alpha < _EMPTY_ALPHA).flatten(start_dim=-2)
        before, after = (
            masked_median((image - drawn).abs().sum(dim=-3).flatten(start_dim=-2), empty)
            for drawn in (rendering, changed)
        )
        cover = shown.alpha.masked_fill((after < before)[..., None, None], 1.0)
        lit = rendering + cover[..., None, :, :] * (changed - rendering)
        rendering = torch.where(light.significant[..., None, None, None], lit, rendering)
    residual = signed_residual(image, rendering)
    return rendering, residual / light.gains[..., None, None]
