"""From queries and their poses to anomaly maps and scores."""

from typing import NamedTuple, Protocol

from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from scene import Camera

from .features import Features
from .maps import anomaly_maps
from .normal_model import Normality, compare, predict


class Scored(NamedTuple):
    """What the comparison of a query, or of several, gives; on the device of the object."""

    rendering: Tensor  # [..., 3, H, W] the defect-free object
    anomaly_map: Tensor  # [..., H, W]
    score: Tensor  # [...]


class Scorer(Protocol):
    """Compares queries with the defect-free object; the device is not waited for."""

    def __call__(self, image: Tensor, camera: Camera) -> Scored:
        """Of a query [3, H, W] and its pose [4, 4], or of B queries and their poses [B, 4, 4]."""
        ...


class RawScorer:
    """The paper's way: squared differences of features, nothing known about normal ones."""

    def __init__(
        self,
        model: ObjectRenderer,
        features: Features,
    ) -> None:
        self.model, self.features = model, features

    def __call__(self, image: Tensor, camera: Camera) -> Scored:
        """See `Scorer`."""
        rendering = self.model.views(camera).images.clamp(0.0, 1.0)
        size = image.shape[-3:]
        maps, scores = anomaly_maps(
            self.features, image.reshape(-1, *size), rendering.reshape(-1, *size)
        )
        leading = image.shape[:-3]
        return Scored(rendering, maps.reshape(*leading, *size[1:]), scores.reshape(leading))


class CalibratedScorer:
    """Residuals after the memory's correction, in units of what is normal at each place."""

    def __init__(self, model: ObjectRenderer, normality: Normality) -> None:
        self.model, self.normality = model, normality

    def __call__(self, image: Tensor, camera: Camera) -> Scored:
        """See `Scorer`; the score is the maximum of the map."""
        shown = predict(self.model, camera, self.normality)
        rendering, residual = compare(image, shown)
        anomaly_map = self.normality(residual, shown)
        return Scored(rendering, anomaly_map, anomaly_map.amax(dim=(-2, -1)))
