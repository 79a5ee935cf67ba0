"""The coarse stage: one thin file per matcher, and the registry that everything asks.

A matcher is added by one entry in `MATCHERS`: the command line, the error texts and doctor.py take
their names from there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gaussian_renderer import ObjectRenderer
from scene import InputError
from scene.weights import LOFTR, XFEAT, WeightFile

from ..gallery import Gallery
from ..hypotheses import Matcher
from . import loftr, silhouette, xfeat


class Entry(NamedTuple):
    """One kind of matcher."""

    # Makes it once for all queries of an object, to run where the Gaussians are, with weights from
    # a folder (None: the caches of the libraries). Raises InputError when these cannot be had.
    make: Callable[[Gallery, ObjectRenderer, Path | None], Matcher]
    weights: WeightFile | None = None  # pre-trained ones that it needs


MATCHERS = {
    "silhouette": Entry(silhouette.make),
    "xfeat": Entry(xfeat.make, XFEAT),
    "loftr": Entry(loftr.make, LOFTR),
}
_ALIASES = {"classical": "silhouette"}  # names of earlier versions, in old commands and files
_PLAIN = "matching by silhouettes, which the plain background gives: no weights are needed"


class Selection(NamedTuple):
    """A matcher and, where another one had been better, why it was not taken."""

    matcher: Matcher
    reason: str  # one line to print; "" when there is nothing to say


def matcher_names() -> list[str]:
    """What may be asked for: "auto" and every matcher."""
    return ["auto", *MATCHERS]


def select_matcher(
    name: str, gallery: Gallery, model: ObjectRenderer, weights: str | Path | None = None
) -> Selection:
    """Makes the named matcher; "auto" takes one that the gallery and the weights at hand allow.

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
    """Silhouettes where a plain background gives them: no weights, and the most accurate there.

    Elsewhere XFeat, and silhouettes (of the whole frame) again when its weights cannot be had.
    """
    if gallery.background is not None:
        return Selection(MATCHERS["silhouette"].make(gallery, model, folder), _PLAIN)
    try:
        return Selection(MATCHERS["xfeat"].make(gallery, model, folder), "")
    except InputError as error:
        plain = MATCHERS["silhouette"].make(gallery, model, folder)
        return Selection(plain, f"silhouette, without XFeat: {error}")
