"""From a query and its pose to an anomaly map and a score."""

from typing import Protocol

from torch import Tensor

from anomaly import Features, anomaly_maps
from gaussian_renderer.object_renderer import ObjectRenderer
from scene import Camera

from .normality import Normality, compare, predict


class Scorer(Protocol):
    """Compares a query with the defect-free object."""

    def __call__(self, image: Tensor, camera: Camera) -> tuple[Tensor, Tensor, float]:
        """Rendering [3, H, W], anomaly map [H, W] and score of a query [3, H, W]."""
        ...


class RawScorer:
    """The paper's way: squared differences of features, nothing known about normal ones."""

    def __init__(
        self,
        model: ObjectRenderer,
        features: Features,
    ) -> None:
        self.model, self.features = model, features

    def __call__(self, image: Tensor, camera: Camera) -> tuple[Tensor, Tensor, float]:
        """See `Scorer`."""
        rendering = self.model(camera).image.clamp(0.0, 1.0)
        maps, scores = anomaly_maps(self.features, image[None], rendering[None])
        return rendering, maps[0], float(scores[0])


class CalibratedScorer:
    """Residuals after the memory's correction, in units of what is normal at each place."""

    def __init__(self, model: ObjectRenderer, normality: Normality) -> None:
        self.model, self.normality = model, normality

    def __call__(self, image: Tensor, camera: Camera) -> tuple[Tensor, Tensor, float]:
        """See `Scorer`; the score is the maximum of the map."""
        shown = predict(self.model, camera, self.normality)
        rendering, residual = compare(image, shown)
        anomaly_map = self.normality(residual, shown)
        return rendering, anomaly_map, float(anomaly_map.max())
