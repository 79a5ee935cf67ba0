"""The coarse stage: one thin file per matcher, all behind `select_matcher`."""

from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from scene import Camera, Gaussians, InputError

from ..gallery import Gallery
from ..hypotheses import Hypothesis
from .classical import ClassicalMatcher

MatcherName = Literal["auto", "loftr", "xfeat", "classical"]


class Matcher(Protocol):
    """Finds coarse poses of queries of one object."""

    name: str

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """Poses of a query [3, H, W] in 0..1 seen through the lens of `camera`, best first."""
        ...

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of each of B queries [B, 3, H, W]."""
        ...


class Selection(NamedTuple):
    """A matcher and, where another one had been better, why it was not taken."""

    matcher: Matcher
    reason: str  # one line to print; "" when there is nothing to say


_PLAIN = "matching by silhouettes, which the plain background gives: no weights are needed"


def select_matcher(
    name: MatcherName,
    gallery: Gallery,
    gaussians: Gaussians,
    *,
    weights: str | Path | None = None,  # a folder with weight files; None: the libraries' caches
    backend: str = "auto",
    threads: int = 1,
) -> Selection:
    """Makes the matcher once for all queries of an object; it runs where the Gaussians are.

    "auto" takes the classical matcher where a plain background gives silhouettes: it needs no
    weights and is the most accurate one there. Elsewhere it takes XFeat, and the classical one
    again when XFeat's weights cannot be had.

    Raises InputError when the weights of a matcher asked for by name cannot be had.
    """
    folder = None if weights is None else Path(weights)
    device = gaussians.means.device
    if name == "classical":
        return Selection(ClassicalMatcher(gallery, device=device), "")
    if name == "auto" and gallery.known_background is not None:
        return Selection(ClassicalMatcher(gallery, device=device), _PLAIN)
    if name == "loftr":
        from .loftr import LoftrMatcher, load_loftr

        return Selection(LoftrMatcher(gallery, load_loftr(folder).to(device)), "")
    if name not in ("auto", "xfeat"):
        raise InputError(f"unknown matcher '{name}': choose auto, loftr, xfeat or classical")
    from .xfeat import XFeatMatcher, load_xfeat

    try:
        model = load_xfeat(folder).to(device)
    except InputError as error:
        if name == "xfeat":
            raise
        classical = ClassicalMatcher(gallery, device=device)
        return Selection(classical, f"classical, without XFeat: {error}")
    matcher = XFeatMatcher(gallery, gaussians, model, backend=backend, threads=threads)
    return Selection(matcher, "")
