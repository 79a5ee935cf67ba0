"""From a query and its pose to an anomaly map and a score."""

from typing import Protocol

from torch import Tensor

from anomaly import Features, anomaly_maps
from gaussian_renderer import render
from scene import Camera, Gaussians


class Scorer(Protocol):
    """Compares a query with the defect-free object."""

    def __call__(self, image: Tensor, camera: Camera) -> tuple[Tensor, Tensor, float]:
        """Rendering [3, H, W], anomaly map [H, W] and score of a query [3, H, W]."""
        ...


class RawScorer:
    """The paper's way: squared differences of features, nothing known about normal ones."""

    def __init__(
        self,
        gaussians: Gaussians,
        background: Tensor,
        features: Features,
        backend: str = "auto",
        threads: int = 1,
    ) -> None:
        self.gaussians, self.background, self.features = gaussians, background, features
        self.backend, self.threads = backend, threads

    def __call__(self, image: Tensor, camera: Camera) -> tuple[Tensor, Tensor, float]:
        """See `Scorer`."""
        rendering = render(
            self.gaussians, camera, self.background, backend=self.backend, threads=self.threads
        ).image.clamp(0.0, 1.0)
        maps, scores = anomaly_maps(self.features, image[None], rendering[None])
        return rendering, maps[0], float(scores[0])
