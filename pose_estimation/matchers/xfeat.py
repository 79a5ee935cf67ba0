"""Coarse poses from XFeat keypoints lifted onto the object: PnP with RANSAC (Potje et al. 2024)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera
from scene.se3 import inverse
from scene.weights import XFEAT, load_weights

from ..gallery import Gallery
from ..hypotheses import Hypothesis, keep_distinct
from ..keypoints import lift, solve_pnp
from .silhouette import SilhouetteMatcher

_KEYPOINTS = 1024  # per image
_SIMILARITY = 0.8  # cosine of two descriptors that may match
_RANSAC_PIXELS = 6.0  # in an image of 400 pixels
_NEIGHBOURS = 10  # train views that are matched with a query


@dataclass(frozen=True)
class LiftedView:
    """Keypoints of one train view that lie on the object."""

    points: Tensor  # [M, 3] float64, world
    descriptors: Tensor  # [M, 64], unit length


class XFeatMatcher:
    """Matches a query with the train views that look most like it, and solves for the pose.

    Keypoints of the train views are found once and lifted to 3D with the depth of the Gaussians.
    The network runs where the Gaussians are; its few keypoints are matched on the CPU.
    """

    name = "xfeat"

    def __init__(
        self,
        gallery: Gallery,
        model: ObjectRenderer,
        network: Any,
        count: int = 6,
    ) -> None:
        self._gallery = gallery
        self._network, self._device = network.eval(), model.gaussians.means.device
        self._retrieval = SilhouetteMatcher(gallery, count, self._device)
        self._count = count
        self._views = [self._lift(model, view) for view in range(len(gallery))]

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """Poses of a query [3, H, W] by number of PnP inliers, best first.

        When no view gives enough inliers, the poses of the silhouette matcher, with a score of 0.
        """
        by_looks = self._retrieval.coarse_poses(image, camera)
        keypoints, descriptors = self._detect(image)
        poses, scores = [], []
        for view in self._nearest_views(by_looks):
            first, second = mutual_matches(descriptors, self._views[view].descriptors)
            points = self._views[view].points[second]
            solved = solve_pnp(points, keypoints[first], camera, _RANSAC_PIXELS)
            if solved is not None:
                poses.append(solved[0])
                scores.append(float(solved[1]))
        if not poses:
            return [Hypothesis(h.world_to_camera, 0.0) for h in by_looks]
        return keep_distinct(torch.stack(poses), torch.tensor(scores), self._count, 0.05)

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of each of B queries [B, 3, H, W], one after the other."""
        return [self.coarse_poses(image, camera) for image in images]

    def _nearest_views(self, hypotheses: list[Hypothesis]) -> list[int]:
        """Train views that see the object from where the hypotheses would, whatever their roll."""
        centre = self._gallery.centre
        offsets = inverse(self._gallery.world_to_camera)[:, :3, 3] - centre
        directions = torch.nn.functional.normalize(offsets, dim=1)
        chosen: dict[int, None] = {}
        each = max(1, _NEIGHBOURS // max(1, min(3, len(hypotheses))))
        for hypothesis in hypotheses[:3]:
            position = inverse(hypothesis.world_to_camera)[:3, 3] - centre
            near = (directions @ position).topk(min(each, len(directions))).indices
            chosen.update(dict.fromkeys(near.tolist()))
        return list(chosen)

    def _detect(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints [M, 2] (pixel centres at + 0.5) and unit descriptors [M, 64]."""
        image = image[None].to(self._device, torch.float32)
        found = self._network.detectAndCompute(image, top_k=_KEYPOINTS)[0]
        # inference tensors do not mix with autograd elsewhere: clone makes them ordinary
        keypoints, descriptors = (found[k].cpu().clone() for k in ("keypoints", "descriptors"))
        return keypoints.double() + 0.5, descriptors

    def _lift(self, model: ObjectRenderer, view: int) -> LiftedView:
        keypoints, descriptors = self._detect(self._gallery.image(view))
        points, solid = lift(model, self._gallery.camera(view), keypoints)
        return LiftedView(points, descriptors[solid])


def make(gallery: Gallery, model: ObjectRenderer, weights: Path | None) -> XFeatMatcher:
    """The matcher on the device of the model. Raises InputError as `load_xfeat`."""
    return XFeatMatcher(gallery, model, load_xfeat(weights).to(model.gaussians.means.device))


def mutual_matches(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [M], [M] of unit descriptors [A, D], [B, D] that are each other's nearest."""
    if not len(first) or not len(second):
        return torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    similarity = first @ second.T
    best, partner = similarity.max(dim=1)
    own = torch.arange(len(first))
    kept = (similarity.argmax(dim=0)[partner] == own) & (best > _SIMILARITY)
    return own[kept], partner[kept]


def load_xfeat(folder: Path | None) -> Any:
    """kornia's XFeat with its published weights.

    Raises InputError when they cannot be had or do not fit.
    """
    from kornia.feature import XFeat

    state = load_weights(XFEAT, folder)
    model = XFeat(top_k=_KEYPOINTS).eval()
    # The fine matcher belongs to the semi-dense mode, which is not used here.
    XFEAT.fit(model.net, state, optional="fine_matcher.")
    return model
