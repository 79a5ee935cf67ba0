"""The object cut from a background that is known at every pixel: silhouette, soft edge, colours.

Shadows that the object throws are part of that background: of its chroma, darker, and bounded by a
penumbra, where the edge of the object is sharp.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WINDOW = 5  # pixels, over which differences are averaged: noise goes, a pale object stays
_SPECK = 3e-4  # of the image: what differs in smaller pieces is left out, and so are such holes
_SHADE = (0.35, 0.97)  # brightness of a shadow, times that of the background
_CHROMA, _TINT = 0.05, 0.2  # by more, and by more of what is missing of the light, no channel of
# a shadow differs from that brightness: the light that is left may have another colour
_SHARP = 0.05  # of the brightness, change per pixel at which what is one shadow ends
_PENUMBRA = 4.2  # pixels over which a shadow fades, at least; a smoothed edge fades over three
_REACH = 7  # pixels, of a penumbra beyond the core of its shadow
_FRINGE = 5  # pixels, the width of what may be left of it
_BORDERS = 0.15  # of a shadow's outline, at least, that lies before the plain background
_EDGE = 7  # pixels, side of the window that gives the colours on both sides of the edge
_VARIES = 2.0  # standard deviations of the background beside the edge
_BLACK = 0.02  # is added, so that ratios of dark colours say little
_SQUARE = np.ones((3, 3), np.uint8)
_EATEN = 0.9  # of what differs: if more would be shadow, none of it is
_FAINT = 0.08  # of the largest piece, in area times contrast: what is less is left out

Picture = NDArray[np.float32]  # [H, W, 3], 0..1
Mask = NDArray[np.bool_]  # [H, W]


@dataclass(frozen=True)
class Tolerance:
    """By how much, in any channel, the background may differ from what is expected there."""

    single: Picture | float  # of a pixel
    mean: Picture | float  # of the mean over a window


@dataclass(frozen=True)
class Silhouette:
    """What differs from a background."""

    mask: Mask  # without shadows, as far as they are told by themselves
    sure: Mask  # those of its pixels that are of no shadow's colour


def largest(differences: Picture) -> NDArray[np.float32]:
    """The largest of three channels [H, W, 3], without its sign, [H, W]; numpy's max is slow."""
    sizes = np.abs(differences)
    return np.maximum(np.maximum(sizes[..., 0], sizes[..., 1]), sizes[..., 2])


def silhouette_before(image: Picture, behind: Picture, tolerance: Tolerance) -> Silhouette:
    """What differs from the background `behind`, but for shadows on it and specks."""
    import cv2  # 0.3 s to import

    difference = image - behind
    single = largest(difference)
    clear = single > tolerance.single
    unclear = (~clear).astype(np.float32)  # what is clear would spread by half a window
    total = cv2.blur(difference * unclear[..., None], (_WINDOW, _WINDOW))
    count = cv2.blur(unclear, (_WINDOW, _WINDOW))
    mean = largest(np.asarray(total, np.float32)) / np.maximum(count, 0.2)
    differs = _without_specks(clear | ((mean > tolerance.mean) & (unclear > 0)))
    ratios = (cv2.blur(image, (3, 3)) + _BLACK) / (cv2.blur(behind, (3, 3)) + _BLACK)
    shade = np.asarray(ratios.mean(axis=2), np.float32)
    alike = largest(ratios - shade[..., None]) < _CHROMA + _TINT * (1 - shade)
    alike &= (shade > _SHADE[0]) & (shade < _SHADE[1])
    shadow = _shadows(shade, alike, differs)
    if shadow.sum() <= _EATEN * differs.sum():
        differs = _without_specks(differs & ~shadow)
    found = _without_faint(differs, single)
    return Silhouette(found, found & ~alike)


def with_pose(image: Picture, sure: Mask, covered: Mask) -> NDArray[np.float32]:
    """`soft_edge` of what is surely object or covered by it at a known pose [H, W].

    There a shadow is told from the object whatever their colours.
    """
    return soft_edge(image, _without_specks(sure | covered))


def soft_edge(image: Picture, silhouette: Mask) -> NDArray[np.float32]:
    """How much of each pixel the object covers, [H, W] in 0..1.

    At the edge, where the colour lies between those of the object and of the background beside it.
    """
    inside, outside = _sides(silhouette)
    object_, behind = _beside(image, inside), _beside(image, outside)
    step = object_ - behind
    size = (step**2).sum(axis=2)
    share = ((image - behind) * step).sum(axis=2) / np.maximum(size, 1e-4)
    share = np.where(size > 1e-3, share.clip(0.0, 1.0), silhouette)
    return np.where(inside, 1.0, np.where(outside, 0.0, share)).astype(np.float32)


def before_colour(
    image: Picture, alpha: NDArray[np.float32], colour: tuple[float, float, float]
) -> Tensor:
    """The object before another background, [3, H, W]; what stood behind its edge is taken away."""
    _, outside = _sides(alpha > 0.5)
    behind = _beside(image, outside)
    rest = (1.0 - alpha)[..., None]
    edge = image + rest * (np.asarray(colour, np.float32) - behind)
    shown = np.where(alpha[..., None] > 0.0, edge, np.asarray(colour, np.float32))
    return torch.from_numpy(shown.clip(0.0, 1.0).transpose(2, 0, 1).astype(np.float32))


def edge_tolerance(image: Picture, alpha: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much what `before_colour` gives may be wrong, as the background varies, [H, W]."""
    _, outside = _sides(alpha > 0.5)
    mean = _beside(image, outside)
    square = _beside(image**2, outside)
    spread = np.sqrt((square - mean**2).max(axis=2).clip(0.0))
    known = np.where(alpha > 0.0, (1.0 - alpha) * _VARIES * spread, 0.0)
    return np.asarray(known, np.float32)


def _sides(silhouette: Mask) -> tuple[Mask, Mask]:
    """What is surely inside and outside."""
    import cv2

    hard = silhouette.astype(np.uint8)
    return cv2.erode(hard, _SQUARE) > 0, cv2.dilate(hard, _SQUARE) == 0


def _beside(image: Picture, known: Mask) -> Picture:
    """Mean colour of the known pixels within a window; where there are none, the pixel's own."""
    import cv2

    weight = known.astype(np.float32)
    total = cv2.blur(image * weight[..., None], (_EDGE, _EDGE))
    count = cv2.blur(weight, (_EDGE, _EDGE))[..., None]
    return np.where(count > 1e-6, total / np.maximum(count, 1e-6), image).astype(np.float32)


def _without_specks(mask: Mask) -> Mask:
    """The mask without pieces and holes of a few pixels."""
    import cv2

    least = max(9.0, _SPECK * mask.size)
    kept = mask
    for wanted in (True, False):  # pieces, then holes
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(
            (kept == wanted).astype(np.uint8), connectivity=8 if wanted else 4
        )
        small = boxes[:count, cv2.CC_STAT_AREA] < least
        small[0] = False  # component 0 is the rest
        kept = kept ^ small[labels]
    return kept


def _without_faint(mask: Mask, contrast: NDArray[np.float32]) -> Mask:
    """The mask without pieces that are small and pale beside the largest one."""
    import cv2

    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    weights = np.bincount(labels.ravel(), (contrast * mask).ravel(), count)
    return np.asarray((weights >= _FAINT * weights.max())[labels] & mask)


def _shadows(shade: NDArray[np.float32], alike: Mask, differs: Mask) -> Mask:
    """Those parts of what differs that are shadows on the background.

    By the brightness, times that of the background, and where the chroma is the same, each [H, W].
    """
    import cv2

    slope = np.hypot(*(cv2.Scharr(shade, cv2.CV_32F, x, 1 - x) for x in (1, 0))) / 32
    core = cv2.erode((alike & differs & (slope < _SHARP)).astype(np.uint8), _SQUARE)
    steepest = np.asarray(cv2.dilate(slope, np.ones((5, 5), np.uint8)), np.float32)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(core)
    found = np.zeros_like(differs)
    for number in range(1, count):
        x, y, width, height, area = boxes[number]
        if area >= max(9.0, _SPECK * core.size):
            rows = slice(max(0, y - _REACH - 2), y + height + _REACH + 2)
            columns = slice(max(0, x - _REACH - 2), x + width + _REACH + 2)
            here = rows, columns
            found[here] |= _if_shadow(
                labels[here] == number, shade[here], steepest[here], alike[here], differs[here]
            )
    return found | _fringe(differs & ~found, alike, found)


def _fringe(rest: Mask, alike: Mask, shadow: Mask) -> Mask:
    """Thin strips of the colour of a shadow beside one: what is left of its penumbra."""
    import cv2

    if not shadow.any():
        return shadow
    side = np.ones((_FRINGE, _FRINGE), np.uint8)
    thick = cv2.morphologyEx(rest.astype(np.uint8), cv2.MORPH_OPEN, side) > 0
    beside = cv2.dilate(shadow.astype(np.uint8), np.ones((2 * _REACH + 1,) * 2, np.uint8)) > 0
    return np.asarray(rest & alike & ~thick & beside)


def _if_shadow(
    core: Mask, shade: NDArray[Any], steepest: NDArray[Any], alike: Mask, differs: Mask
) -> Mask:
    """A shadow with its penumbra, from its core; nothing where the core is no shadow's."""
    import cv2

    nothing, piece = np.zeros_like(core), core.astype(np.uint8)
    reach = cv2.dilate(piece, np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)) > 0
    outline = (cv2.dilate(piece, _SQUARE) > 0) & ~core
    free = (~differs).astype(np.uint8)
    before = outline & (cv2.dilate(free, np.ones((2 * _REACH + 1,) * 2, np.uint8)) > 0)
    rim = reach & differs & (cv2.dilate(free, _SQUARE) > 0)
    if before.sum() < _BORDERS * outline.sum() or not rim.any():
        return nothing
    middle = float(np.median(shade[core]))
    if 1.0 - middle < _PENUMBRA * float(np.median(steepest[rim])):
        return nothing
    return (reach & alike & (shade > middle - 0.05)) | core
