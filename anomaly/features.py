"""What of a query and its rendering is compared, by name: one entry in FEATURES adds another.

`FeatureScorer` (scoring.py) makes the map from any of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from scene import InputError
from scene.weights import EFFICIENTNET, cache_folder, find_weights

from .efficientnet import load_efficientnet
from .residual import SIGMA, lab_residual


class Features(Protocol):
    """A way to tell where two images differ."""

    name: str
    sigma: float  # blur of the difference map, in its own pixels

    def difference(
        self,
        query: Tensor,  # [B, 3, H, W], 0..1
        rendering: Tensor,  # [B, 3, H, W], 0..1
    ) -> Tensor:
        """Squared difference per pixel, [B, h, w], at the features' own size."""


class RgbFeatures:
    """Squared difference of RGB, summed over channels."""

    name, sigma = "rgb", SIGMA

    def difference(self, query: Tensor, rendering: Tensor) -> Tensor:
        """See `Features`."""
        return (query - rendering).square().sum(dim=1)


class LabFeatures:
    """Squared CIELAB distance that forgives edges displaced by up to one pixel."""

    name, sigma = "lab", SIGMA

    def difference(self, query: Tensor, rendering: Tensor) -> Tensor:
        """See `Features`."""
        return lab_residual(query, rendering).square().sum(dim=1)


# Name to a function of the weights folder (None: the libraries' cache) and the device.
FEATURES: dict[str, Callable[[Path | None, torch.device], Features]] = {
    "rgb": lambda weights, device: RgbFeatures(),
    "lab": lambda weights, device: LabFeatures(),
    "efficientnet_b4": load_efficientnet,
}


def feature_names() -> list[str]:
    """What may be asked for: the normal model's residuals, "auto" and every entry of FEATURES."""
    return ["residual", "auto", *FEATURES]


def make_features(
    name: str,
    weights: Path | None = None,  # a folder with weight files; None: the libraries' cache
    device: torch.device | str = "cpu",
) -> tuple[Features, str]:
    """The features called `name`, and one line that says which they are and why.

    "auto" takes EfficientNet-b4 if its weights are at hand (in `weights`, or in the cache; nothing
    is downloaded), else "lab". "efficientnet_b4" downloads its weights once if no folder is given.
    Raises InputError for an unknown name, and for weights that cannot be had or do not fit.
    """
    why = ""
    if name == "auto":
        path = find_weights(EFFICIENTNET, weights)
        name = "lab" if path is None else "efficientnet_b4"
        place = _short(path or (weights or cache_folder()) / EFFICIENTNET.name)
        why = f": {'no ' if path is None else ''}weights of EfficientNet-b4 at {place}"
    if name not in FEATURES:
        names = ", ".join(feature_names())
        raise InputError(f"unknown features '{name}': choose one of {names}")
    return FEATURES[name](weights, torch.device(device)), f"{name} features{why}"


def _short(path: Path) -> str:
    """The path with the home folder as "~": results and tables are handed around."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
