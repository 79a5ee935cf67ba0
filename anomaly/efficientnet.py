"""Differences of EfficientNet-b4 features: the anomaly map of the paper."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scene.weights import EFFICIENTNET, load_weights

SIZE = 224  # both images are brought to this size, pixels
BLOCKS = (1, 5, 9, 21)  # the last block at strides 2, 4, 8, 16; 24, 32, 56, 160 channels
_MEAN = (0.485, 0.456, 0.406)  # ImageNet statistics of RGB in 0..1
_STD = (0.229, 0.224, 0.225)


class EfficientNetFeatures:
    """Squared differences of ImageNet-normalised pixels and of four levels of EfficientNet-b4.

    The network is that of the package efficientnet_pytorch, whose SAME padding is fixed for
    380 px and kept at 224: another port gives other maps.
    """

    name = "efficientnet_b4"
    sigma = 4.0  # pixels at 224 x 224, blur of the map

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self.network = network.eval().requires_grad_(False).to(device)

    def normalise(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0..1 as the network wants them, [B, 3, 224, 224]."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = nn.functional.interpolate(
                images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False
            )
        mean, std = (torch.tensor(each).to(images, non_blocking=True) for each in (_MEAN, _STD))
        return (images - mean[:, None, None]) / std[:, None, None]

    @torch.inference_mode()
    def levels(self, normalised: Tensor) -> list[Tensor]:
        """Outputs of BLOCKS for normalised images [B, 3, 224, 224], finest first."""
        network: Any = self.network
        levels = []
        features = network._swish(network._bn0(network._conv_stem(normalised)))
        for index, block in enumerate(network._blocks[: BLOCKS[-1] + 1]):
            features = block(features)
            if index in BLOCKS:
                levels.append(features)
        return levels

    @torch.inference_mode()
    def difference(self, query: Tensor, rendering: Tensor) -> Tensor:
        """Difference map [B, 224, 224] of images [B, 3, H, W] in 0..1."""
        both = self.normalise(torch.cat([query, rendering]))
        total = _squared_difference(both)
        for level in self.levels(both):
            coarse = _squared_difference(level)[:, None]
            total += nn.functional.interpolate(
                coarse, (SIZE, SIZE), mode="bilinear", align_corners=False
            )[:, 0]
        return total


def _squared_difference(both: Tensor) -> Tensor:
    """First half of the batch [2B, C, h, w] against the second, summed over channels: [B, h, w]."""
    query, rendering = both.chunk(2)
    return (query - rendering).square().sum(dim=1)


def load_efficientnet(
    weights_dir: str | Path | None = None, device: torch.device | str = "cpu"
) -> EfficientNetFeatures:
    """Reads the weights from `weights_dir`, or else from the cache, downloading them once.

    Raises:
        InputError: they cannot be had or do not fit.
    """
    from efficientnet_pytorch import EfficientNet

    state = load_weights(EFFICIENTNET, None if weights_dir is None else Path(weights_dir))
    network = EfficientNet.from_name("efficientnet-b4")
    EFFICIENTNET.fit(network, state)
    return EfficientNetFeatures(network, device)
