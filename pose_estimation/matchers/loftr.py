"""SplatPose's coarse stage: LoFTR against every train view; the view with most matches wins."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera
from scene.weights import LOFTR, load_weights

from ..gallery import Gallery
from ..hypotheses import Hypothesis

_STRIDE = 8  # of the coarse feature map, pixels
_BATCH = 6  # pairs at a time


class LoftrMatcher:
    """Counts the mutual coarse matches of a query with each train view (Sun et al. 2021).

    The backbone sees every train view once, when the matcher is made. LoFTR's fine stage moves
    matches by a few pixels but makes none and drops none, so it is not run. All is computed on the
    device of the network.
    """

    name = "loftr"
    half = False  # the transformer computes in 16 bits (bfloat16 on a CPU)

    def __init__(self, gallery: Gallery, network: Any, count: int = 6) -> None:
        self._gallery = gallery
        self._network = network.eval()
        self._device = next(network.parameters()).device
        self._count = count
        self._features = [  # V of [1, 256, h, w]; half precision halves 0.5 GB for 210 views
            self._encode(gallery.image(view)).half() for view in range(len(gallery))
        ]

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """The train views' poses by number of matches with a query [3, H, W], best first."""
        counts = self.match_counts(image)
        order = torch.argsort(counts, descending=True, stable=True)[: self._count]
        poses = self._gallery.world_to_camera
        return [Hypothesis(poses[view], float(counts[view])) for view in order.tolist()]

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of each of B queries [B, 3, H, W], one after the other."""
        return [self.coarse_poses(image, camera) for image in images]

    def match_counts(self, image: Tensor) -> Tensor:
        """Number of matches of a query [3, H, W] with every train view, [V]."""
        query = self._encode(image)
        counts = []
        for start in range(0, len(self._features), _BATCH):
            views = torch.cat(self._features[start : start + _BATCH]).float()
            counts.append(self._count_batch(query.expand(len(views), -1, -1, -1), views))
        return torch.cat(counts).cpu()

    @torch.no_grad()
    def _encode(self, image: Tensor) -> Tensor:
        """Coarse features with their positions [1, C, h, w] of an image [3, H, W]."""
        image = image.to(self._device, torch.float32)
        grey = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)[None, None]
        size = [max(_STRIDE, round(side / _STRIDE) * _STRIDE) for side in image.shape[1:]]
        if size != list(image.shape[1:]):
            grey = torch.nn.functional.interpolate(grey, size=size, mode="bilinear")
        coarse, _ = self._network.backbone(grey)
        return self._network.pos_encoding(coarse)

    @torch.no_grad()
    def _count_batch(self, queries: Tensor, views: Tensor) -> Tensor:
        """Number of matches of B pairs of feature maps [B, C, h, w], [B]."""
        first, second = (m.flatten(2).transpose(1, 2).contiguous() for m in (queries, views))
        with torch.autocast(queries.device.type, enabled=self.half):
            first, second = self._network.loftr_coarse(first, second)
        first, second = first.float(), second.float()
        data: dict[str, Any] = {
            "bs": len(views),
            "hw0_c": queries.shape[2:],
            "hw1_c": views.shape[2:],
            "hw0_i": [side * _STRIDE for side in queries.shape[2:]],  # read by kornia below 0.9
            "hw1_i": [side * _STRIDE for side in views.shape[2:]],
            "stride_c": _STRIDE,
        }
        self._network.coarse_matching(first, second, data)
        return torch.bincount(data["b_ids"], minlength=len(views))


def make(gallery: Gallery, model: ObjectRenderer, weights: Path | None) -> LoftrMatcher:
    """The matcher on the device of the model. Raises InputError as `load_loftr`."""
    return LoftrMatcher(gallery, load_loftr(weights).to(model.gaussians.means.device))


def load_loftr(folder: Path | None) -> Any:
    """kornia's LoFTR with the weights "indoor_new", as the paper used.

    Those weights were trained with the corrected positional encoding; without `temp_bug_fix` the
    matches are silently poor. Raises InputError when the weights cannot be had or do not fit.
    """
    state = load_weights(LOFTR, folder)
    network = make_loftr()
    LOFTR.fit(network, state)
    return network


def make_loftr() -> Any:
    """LoFTR with the right positional encoding and random weights."""
    import copy

    from kornia.feature import LoFTR
    from kornia.feature.loftr.loftr import default_cfg

    config: dict[str, Any] = copy.deepcopy(default_cfg)
    config["coarse"]["temp_bug_fix"] = True
    return LoFTR(pretrained=None, config=config).eval()
