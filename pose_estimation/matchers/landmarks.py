"""Coarse poses without weights or a background: SIFT landmarks on the object, PnP with RANSAC."""

import math
from pathlib import Path

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera, InputError
from scene.keypoints import find_keypoints, one_opencv_thread
from scene.se3 import inverse

from ..gallery import Gallery
from ..hypotheses import Hypothesis, keep_distinct
from ..keypoints import MIN_INLIERS, solve_pnp

_KEYPOINTS = 800  # of a query
_VOTERS = 400  # of them, at least, say from where it may have been taken
_CONES, _CONES_AT_LEAST = 5, 2  # groups of directions that are tried
SURE = 30  # inliers that leave no doubt: no further groups are tried
_CONE = math.radians(35.0)  # landmarks described from that near a direction are matched together
_RATIO = 0.85  # of the distances to the nearest and to the next place (Lowe 2004)
_SAME_PLACE = 0.02  # of the object's radius: nearer landmarks are one place
_NEXT = 4  # landmarks of a keypoint among which the next place is sought
_LENGTH_SQUARED = 512.0**2  # of a descriptor
_RANSAC_PIXELS = 4.0  # in an image of 400 pixels
_SEPARATION = 0.05  # radians


class LandmarkMatcher:
    """Matches a query's keypoints with the landmarks of the gallery, and solves for the pose.

    Descriptors are whole numbers, so their products are exact in float32: a query gives the same
    bits for any number of threads. The best match of every keypoint votes for the directions from
    which the query may have been taken; within each of them matches are made anew, where parts that
    look alike from elsewhere cannot confuse them.
    """

    name = "landmarks"

    def __init__(self, gallery: Gallery, count: int = 3) -> None:
        points, descriptors, views = (
            gallery.landmark_points, gallery.landmark_descriptors, gallery.landmark_views,
        )  # fmt: skip
        if points is None or descriptors is None or views is None:
            raise InputError("the gallery is of an earlier version (calibrate.py renews it)")
        if not len(points):
            raise InputError("the object has too little texture for landmarks")
        self._points, self._descriptors = points.double(), descriptors.float()
        self._count, self._same_place = count, _SAME_PLACE * float(gallery.radius)
        centres = inverse(gallery.world_to_camera)[:, :3, 3] - gallery.centre
        directions = torch.nn.functional.normalize(centres, dim=1)
        self._views = views.long()
        self._near = (directions @ directions.T) > math.cos(_CONE)  # [V, V]

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """Distinct poses of a query [3, H, W] by number of inliers, best first; maybe none."""
        with one_opencv_thread():
            keypoints = find_keypoints(image, _KEYPOINTS)
            if len(keypoints.pixels) < MIN_INLIERS:
                return []
            descriptors = keypoints.descriptors.float()
            poses: list[Tensor] = []
            scores: list[float] = []
            for number, cone in enumerate(self._cones(descriptors)):
                if number >= _CONES_AT_LEAST and max(scores, default=0.0) >= SURE:
                    break
                first, second = self._matches(descriptors, cone)
                solved = solve_pnp(
                    self._points[second], keypoints.pixels[first], camera, _RANSAC_PIXELS
                )
                if solved is not None:
                    poses.append(solved[0])
                    scores.append(float(solved[1]))
        if not poses:
            return []
        return keep_distinct(torch.stack(poses), torch.tensor(scores), self._count, _SEPARATION)

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of each of B queries [B, 3, H, W], one after the other."""
        return [self.coarse_poses(image, camera) for image in images]

    def _cones(self, descriptors: Tensor) -> list[Tensor]:
        """Landmarks seen from near the views that get most votes: indices, best view first."""
        voters = descriptors[:: max(1, len(descriptors) // _VOTERS)]
        similarity = voters @ self._descriptors.T  # [W, M]
        voted = self._views[similarity.argmax(dim=1)]
        votes = torch.bincount(voted, minlength=len(self._near)).double()
        cones = []
        for _ in range(_CONES):
            each = self._near.double() @ votes
            view = int(each.argmax())
            if each[view] < MIN_INLIERS:
                break
            near = self._near[view]
            cones.append(near[self._views].nonzero()[:, 0])
            votes = votes.masked_fill(near, 0.0)
        return cones

    def _matches(self, descriptors: Tensor, cone: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints [P] and landmarks [P] whose looks are nearest by far."""
        similarity = descriptors @ self._descriptors[cone].T  # [Q, C]
        best, place = similarity.topk(min(_NEXT, len(cone)), dim=1)
        points = self._points[cone[place]]  # [Q, _NEXT, 3]
        elsewhere = (points - points[:, :1]).norm(dim=2) > self._same_place
        distance = (2 * (_LENGTH_SQUARED - best)).clamp_min(0).sqrt()
        rest = distance.masked_fill(~elsewhere, torch.inf).amin(dim=1)
        kept = (distance[:, 0] < _RATIO * rest).nonzero()[:, 0]
        return kept, cone[place[kept, 0]]


def make(gallery: Gallery, model: ObjectRenderer, weights: Path | None) -> LandmarkMatcher:
    """The matcher; it needs no weights and computes on the CPU. Raises InputError for an object
    without landmarks.
    """
    return LandmarkMatcher(gallery)
