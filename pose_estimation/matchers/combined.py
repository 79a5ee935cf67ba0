"""Landmarks first, and another matcher where they do not settle it."""

from torch import Tensor

from scene import Camera

from ..hypotheses import Hypothesis, Matcher
from .landmarks import SURE, LandmarkMatcher


class CombinedMatcher:
    """Poses by landmarks; unless enough of them agree, those of another matcher beside them.

    Textured objects are found by landmarks whatever stands behind them, the others by the rest.
    """

    def __init__(self, landmarks: LandmarkMatcher, other: Matcher) -> None:
        self._landmarks, self._other = landmarks, other
        self.name = f"{landmarks.name} and {other.name}"

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """Poses of a query [3, H, W]: the best by landmarks, the other matcher's, further ones.

        The scores are those of the matchers: they do not compare between the two.
        """
        found = self._landmarks.coarse_poses(image, camera)
        if found and found[0].score >= SURE:
            return found
        return [*found[:1], *self._other.coarse_poses(image, camera), *found[1:]]

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of each of B queries [B, 3, H, W], one after the other."""
        return [self.coarse_poses(image, camera) for image in images]
