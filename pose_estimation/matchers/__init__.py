"""The coarse stage: one thin file per matcher, and the registry that everything asks.

A matcher is added by one entry in `MATCHERS`: the command line, the error texts and doctor.py take
their names from there.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gaussian_renderer import ObjectRenderer
from scene import InputError
from scene.weights import LOFTR, XFEAT, WeightFile, fetch_weights, find_weights

from ..gallery import Gallery
from ..hypotheses import Matcher
from . import gradients, landmarks, loftr, silhouette, xfeat
from .combined import CombinedMatcher
from .lazy import LazyMatcher


class Entry(NamedTuple):
    """One kind of matcher."""

    # Makes it once for all queries of an object, to run where the Gaussians are, with weights from
    # a folder (None: the caches of the libraries). Raises InputError when these cannot be had.
    make: Callable[[Gallery, ObjectRenderer, Path | None], Matcher]
    weights: WeightFile | None = None  # pre-trained ones that it needs


MATCHERS = {
    "silhouette": Entry(silhouette.make),
    "landmarks": Entry(landmarks.make),
    "gradients": Entry(gradients.make),
    "xfeat": Entry(xfeat.make, XFEAT),
    "loftr": Entry(loftr.make, LOFTR),
}
_ALIASES = {"classical": "silhouette"}  # names of earlier versions, in old commands and files
_PLAIN = "silhouettes from the plain background: no weights are needed"


class Selection(NamedTuple):
    """A matcher and, where another one had been better, why it was not taken."""

    matcher: Matcher
    reason: str  # one line to print; "" when there is nothing to say
    last: Matcher | None = None  # to be asked for queries whose poses are not trusted


def matcher_names() -> list[str]:
    """What may be asked for: "auto" and every matcher."""
    return ["auto", *MATCHERS]


def select_matcher(
    name: str, gallery: Gallery, model: ObjectRenderer, weights: str | Path | None = None
) -> Selection:
    """Makes the named matcher; "auto" takes what the gallery and the weights at hand allow.

    Raises InputError for an unknown name, and when the weights of a matcher asked for by name
    cannot be had.
    """
    folder = None if weights is None else Path(weights)
    name = _ALIASES.get(name, name)
    if name == "auto":
        return _automatic(gallery, model, folder)
    if name not in MATCHERS:
        raise InputError(f"unknown matcher '{name}': choose one of {', '.join(matcher_names())}")
    return Selection(MATCHERS[name].make(gallery, model, folder), "")


def _automatic(gallery: Gallery, model: ObjectRenderer, folder: Path | None) -> Selection:
    """Landmarks where the object has texture, and what is next best where they do not suffice.

    That is silhouettes where a plain background gives them, elsewhere XFeat, and silhouettes (of
    the whole frame) again when its weights cannot be had. With silhouettes, XFeat is the last
    resort where its weights are at hand: none are downloaded for that.
    """
    by_xfeat = LazyMatcher("xfeat", lambda: MATCHERS["xfeat"].make(gallery, model, folder))
    other: Matcher = by_xfeat
    reason, last = "", None
    if gallery.background is not None:
        other, reason = MATCHERS["silhouette"].make(gallery, model, folder), _PLAIN
        last = None if find_weights(XFEAT, folder) is None else by_xfeat
    else:
        try:
            fetch_weights(XFEAT, folder)
        except InputError as error:
            other = MATCHERS["silhouette"].make(gallery, model, folder)
            reason = f"silhouettes of the whole frame, without XFeat: {error}"
    try:
        found = CombinedMatcher(landmarks.LandmarkMatcher(gallery), other)
        return Selection(found, reason, last)
    except InputError as error:
        reason = "; ".join(filter(None, (reason, f"no landmarks: {error}")))
        return Selection(other, reason, last)


def matchers_in_surroundings(gallery: Gallery, model: ObjectRenderer) -> tuple[Matcher, ...]:
    """Matchers that need neither a silhouette nor weights, in the order to be asked.

    The templates of the second are rendered when a query first needs them.
    """
    found: list[Matcher] = []
    with suppress(InputError):  # of an object without texture
        found.append(landmarks.LandmarkMatcher(gallery))
    found.append(LazyMatcher("gradients", lambda: MATCHERS["gradients"].make(gallery, model, None)))
    return tuple(found)
