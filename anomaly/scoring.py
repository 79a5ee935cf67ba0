"""THE MAP: a query against the defect-free object rendered at its pose.

Two scorers behind one call. `NormalModelScorer` (default) gives residuals in units of what is
normal at each place; `FeatureScorer` is the paper's way, squared differences of features.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera

from .features import Features
from .filters import gaussian_blur
from .masked import masked_median, surely_none
from .normal_model import NormalModel, Prediction, predict
from .photometry import fit_photometry
from .residual import signed_residual

_OBJECT_ALPHA = 0.5  # where the object covers at least so much of a pixel, colours are compared
_NEAR, _FARTHER = math.radians(15.0), 2.0  # from a view: near; times as far as usual
_EMPTY_ALPHA = 0.05  # where it covers less, the background is seen


class Scored(NamedTuple):
    """What the comparison of a query, or of several, gives; on the device of the object."""

    rendering: Tensor  # [..., 3, H, W] the defect-free object
    anomaly_map: Tensor  # [..., H, W]
    depth: Tensor  # [..., H, W] camera z of the object, 0 off it
    score: Tensor  # [...]


class Scorer(Protocol):
    """Compares queries with the defect-free object; the device is not waited for."""

    name: str  # of what is compared, as `--features` takes it
    model: ObjectRenderer

    def __call__(self, image: Tensor, camera: Camera) -> Scored:
        """Of a query [3, H, W] and its pose [4, 4], or of B queries and their poses [B, 4, 4]."""
        ...


class NormalModelScorer:
    """Residuals after the memory's correction, in units of what is normal at each place."""

    name = "residual"

    def __init__(self, model: ObjectRenderer, known: NormalModel) -> None:
        self.model, self.known = model, known

    def __call__(self, image: Tensor, camera: Camera) -> Scored:
        """See `Scorer`; the score is the maximum of the map."""
        shown = predict(self.model, camera, self.known)
        rendering, anomaly_map = self.map_of(image, shown)
        return Scored(rendering, anomaly_map, shown.depth, anomaly_map.amax(dim=(-2, -1)))

    def beyond_views(self, rotation: Tensor) -> float | None:
        """Angle (radians) from a query's direction to the nearest view; None where it is usual.

        `rotation` [3, 3] is world to camera. Usual is up to twice as far as held-out views lie.
        """
        angle = self.known.memory.distance(rotation)
        usual = max(_NEAR, _FARTHER * min(self.known.distance_scale.largest, _NEAR))
        return angle if angle > usual else None

    def map_of(self, image: Tensor, shown: Prediction) -> tuple[Tensor, Tensor]:
        """The rendering in the query's light, and the anomaly map [..., H, W], by a prediction."""
        rendering, residual = compare(image, shown)
        distance = self.known.mahalanobis(residual, shown.maps)
        return rendering, distance / shown.scale[..., None, None]


class FeatureScorer:
    """The paper's way: squared differences of features, nothing known about normal ones."""

    def __init__(self, model: ObjectRenderer, features: Features) -> None:
        self.model, self.features, self.name = model, features, features.name

    @torch.no_grad()
    def __call__(self, image: Tensor, camera: Camera) -> Scored:
        """See `Scorer`."""
        shown = self.model.views(camera, depth=True)
        assert shown.depths is not None
        rendering, size = shown.images.clamp(0.0, 1.0), image.shape[-3:]
        maps, scores = feature_maps(
            self.features, image.reshape(-1, *size), rendering.reshape(-1, *size)
        )
        leading = image.shape[:-3]
        maps, scores = maps.reshape(*leading, *size[1:]), scores.reshape(leading)
        return Scored(rendering, maps, shown.depths, scores)


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
    return rendering, residual / light.believable_gain[..., None, None]


def feature_maps(
    features: Features,
    query: Tensor,  # [B, 3, H, W], 0..1
    rendering: Tensor,  # [B, 3, H, W], 0..1; values outside are clamped
) -> tuple[Tensor, Tensor]:
    """Anomaly maps [B, H, W] and image scores [B] (SplatPose, section 3.3).

    The score is the maximum at the features' own resolution, as in the paper (224 x 224 for
    EfficientNet-b4); the map is then brought to the size of the query.

    Raises ValueError when the images do not fit together.
    """
    if query.ndim != 4 or query.shape[1] != 3 or query.shape != rendering.shape:
        raise ValueError(
            f"query and rendering must both be [B, 3, H, W], got {list(query.shape)} and "
            f"{list(rendering.shape)}: load both at the size of the query's camera"
        )
    difference = features.difference(query.clamp(0.0, 1.0), rendering.clamp(0.0, 1.0))
    smooth = gaussian_blur(difference, features.sigma)
    height, width = query.shape[-2:]
    return resize_maps(smooth, height, width), smooth.amax(dim=(-2, -1))


def resize_maps(
    maps: Tensor,  # [B, h, w]
    height: int,
    width: int,
) -> Tensor:
    """Maps at another size, bilinear, [B, height, width]."""
    if maps.shape[-2:] == (height, width):
        return maps
    return torch.nn.functional.interpolate(
        maps[:, None], (height, width), mode="bilinear", align_corners=False
    )[:, 0]
