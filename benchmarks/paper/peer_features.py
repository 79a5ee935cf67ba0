"""Descriptors of image patches for the peers: one vector per cell of a coarse grid."""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from anomaly import make_features
from anomaly.residual import perceptual

_CELL = 8  # pixels, classical: side of a cell
_DIRECTIONS = 4  # classical: orientations of edges


class PatchFeatures(Protocol):
    """Describes patches."""

    name: str

    def __call__(self, image: Tensor) -> Tensor:
        """[C, h, w] of an image [3, H, W] in 0..1."""
        ...


class ClassicalPatches:
    """Colour (mean, spread) and edge directions of cells of 8 pixels and of 3 x 3 cells."""

    name = "classical"

    def __call__(self, image: Tensor) -> Tensor:
        """[20, H / 8, W / 8]: see the class."""
        lab = perceptual(image)
        cells = avg_pool2d(torch.cat([lab, lab.square(), _edges(lab[0])]), _CELL)
        wide = avg_pool2d(cells[None], 3, stride=1, padding=1, count_include_pad=False)[0]
        return torch.cat([_described(cells), _described(wide)])


def _described(sums: Tensor) -> Tensor:
    """Mean and standard deviation of the colour, and edges: [10, h, w]."""
    mean, square, edges = sums[:3], sums[3:6], sums[6:]
    spread = (square - mean.square()).clamp_min(0.0).sqrt()
    return torch.cat([mean, spread, edges])


def _edges(light: Tensor) -> Tensor:
    """Strength of lightness edges in each of four directions, [4, H, W] of [H, W]."""
    dy, dx = torch.gradient(light)
    angles = torch.arange(_DIRECTIONS) * torch.pi / _DIRECTIONS
    along = angles.cos()[:, None, None].to(dx) * dx + angles.sin()[:, None, None].to(dx) * dy
    return along.abs()


class NetworkPatches:
    """Four levels of EfficientNet-b4 on a grid of 28 x 28."""

    _GRID = 28

    def __init__(self, network: Any) -> None:
        self.network, self.name = network, network.name

    def __call__(self, image: Tensor) -> Tensor:
        """[272, 28, 28] of an image [3, H, W]."""
        levels = self.network.levels(self.network.normalise(image[None]))
        size = (self._GRID, self._GRID)
        return torch.cat(
            [interpolate(level, size, mode="bilinear", antialias=True)[0] for level in levels]
        )


def patch_features(
    name: str | None, weights: str | None, device: torch.device
) -> tuple[PatchFeatures, str]:
    """Descriptors of that name (None: auto), and one line that says which they are.

    Raises ValueError and FileNotFoundError as `anomaly.make_features` does.
    """
    features, words = make_features(name or "auto", weights, device)
    if features.name == "efficientnet_b4":
        return NetworkPatches(features), words
    return ClassicalPatches(), words
