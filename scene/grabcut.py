"""GrabCut (Rother et al. 2004): an outline moved to where the colours change."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 2


def grabcut_outline(
    photograph: NDArray[np.uint8],  # [H, W, 3]
    outline: NDArray[np.bool_],  # [H, W], about where the object is
    band: int,  # pixels inwards and outwards within which the outline may move
    margin: int | None = None,  # pixels around the band that tell the background; None: all
) -> NDArray[np.bool_]:
    """What belongs to the object, [H, W]; the outline itself where nothing surely is or is not."""
    import cv2  # 0.3 s to import

    hard = outline.astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    inner, outer = cv2.erode(hard, kernel), cv2.dilate(hard, kernel)
    if not inner.any() or outer.all():
        return outline
    labels: NDArray[Any] = np.where(hard > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inner > 0], labels[outer == 0] = cv2.GC_FGD, cv2.GC_BGD
    rows, columns = (
        slice(None) if margin is None else _around(np.asarray(outer.any(axis=axis)), margin)
        for axis in (1, 0)
    )
    here = rows, columns
    cut = np.ascontiguousarray(labels[here])
    if not (cut == cut.dtype.type(cv2.GC_BGD)).any():
        return outline
    cv2.setRNGSeed(0)  # its clusters are drawn at random
    cv2.grabCut(
        np.ascontiguousarray(photograph[here]), cut, (0, 0, 1, 1), np.zeros((1, 65)),
        np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK,
    )  # fmt: skip
    found = np.zeros_like(hard)
    found[here] = (cut == cv2.GC_FGD) | (cut == cv2.GC_PR_FGD)
    return np.asarray(found > 0)


def _around(occupied: NDArray[np.bool_], margin: int) -> slice:
    """From the first to the last occupied place, and so far beyond."""
    places = np.flatnonzero(occupied)
    return slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin)
