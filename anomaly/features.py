"""What is compared: one interface, three ways to compare a query with its rendering."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from .residual import ClassicalFeatures, RgbFeatures

FEATURES = ("auto", "efficientnet_b4", "classical", "rgb")


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


def make_features(
    name: str = "auto",
    weights_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Features, str]:
    """The features called `name`, and one line that says which they are and why.

    "auto" takes EfficientNet-b4 if its weights are at hand (in `weights_dir`, or in the cache
    of torch.hub; nothing is downloaded), else the classical features. "efficientnet_b4"
    downloads its weights once if no `weights_dir` is given.

    Raises ValueError for an unknown name or weights that do not fit, FileNotFoundError when
    weights are asked for and cannot be had.
    """
    if name == "rgb":
        return RgbFeatures(), "rgb features"
    if name == "classical":
        return ClassicalFeatures(), "classical features (they need no weights)"
    if name not in FEATURES:
        raise ValueError(f"unknown features '{name}': choose one of {', '.join(FEATURES)}")
    from . import efficientnet

    if name == "efficientnet_b4":
        network = efficientnet.load_efficientnet(weights_dir, device)
        return network, "efficientnet_b4 features"
    path = efficientnet.weights_path(weights_dir)
    if path.is_file():
        network = efficientnet.load_efficientnet(weights_dir, device)
        return network, f"efficientnet_b4 features: weights found at {_short(path)}"
    why = f"no weights of EfficientNet-b4 at {_short(path)}"
    return ClassicalFeatures(), f"classical features: {why}"


def _short(path: Path) -> str:
    """The path with the home folder as "~": results and tables are handed around."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
