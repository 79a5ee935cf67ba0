"""A matcher that is made when it is first asked: networks take seconds to load."""

from collections.abc import Callable

from torch import Tensor

from scene import Camera

from ..hypotheses import Hypothesis, Matcher


class LazyMatcher:
    """The matcher that `make` gives, once a query needs it. What `make` raises comes then, too."""

    def __init__(self, name: str, make: Callable[[], Matcher]) -> None:
        self.name = name
        self._make = make
        self._made: Matcher | None = None

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """As the matcher's."""
        return self._matcher().coarse_poses(image, camera)

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """As the matcher's."""
        return self._matcher().coarse_poses_many(images, camera)

    def _matcher(self) -> Matcher:
        if self._made is None:
            self._made = self._make()
        return self._made
