"""A fixed camera before which the object turns: what most frames agree on is the background.

What stands still in the image would be taken for the world, and the turning object for an
exception; so structure from motion is shown the object alone.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

_SIZE = 240  # pixels of the longer side of the images that are compared
_FRAME = 0.1  # of the image, the margin at its border in which nothing turns
_STILL = 7.0  # of 255: a pixel that changes less over the frames stands still
_STILL_SHARE = 0.7  # of that margin that must stand still
_TURNING_SHARE = 0.03  # of the image that must not
_DIFFERS = 18.0  # of 255: from the background, in any channel
_STILL_FRAMES, _STILL_AT_MOST = 90.0, 12.0  # percent of the frames that differ by less, of 255
_SEEN_SHARE = 0.5  # of the frames that must agree on a colour, for it to be the background's
_CLOSED = 5  # pixels of the reduced image: gaps in an outline that are closed
_GRABCUT_ROUNDS = 3
_GROWN = 0.02  # of the longer side, by which the masks of structure from motion are wider

Image = NDArray[np.uint8]  # [H, W, 3]


@dataclass(frozen=True)
class Backdrop:
    """What stands still, at a reduced size."""

    colours: NDArray[np.float32]  # [h, w, 3], 0 to 255
    known: NDArray[np.bool_]  # [h, w]: enough frames agree on the colour
    still: NDArray[np.bool_]  # [h, w]: nearly all do, so nothing turns there


def still_background(images: Sequence[Image]) -> Backdrop | None:
    """The background where the camera stands still and something turns; else None.

    `images` are of one size, at most some 60 of them.
    """
    small = np.stack([_reduced(image) for image in images]).astype(np.float32)
    margin = _margin(*small.shape[1:3])
    small = np.stack([_exposed_as(image, np.median(small, axis=0), margin) for image in small])
    median = np.median(small, axis=0)
    spread = 1.4826 * np.median(np.abs(small - median), axis=0).max(axis=2)  # [H, W]
    stands_still = float((spread < _STILL)[margin].mean()) > _STILL_SHARE
    turns = float((spread[~margin] > _STILL).mean()) > _TURNING_SHARE
    has_structure = float(cv2.Laplacian(median.astype(np.uint8), cv2.CV_32F).std()) > 1.0
    return _agreed(small, median) if stands_still and turns and has_structure else None


def foreground_masks(images: Sequence[Image], backdrop: Backdrop) -> list[NDArray[np.uint8]]:
    """What differs from the background, [H, W] of 0 or 255 at the images' sizes.

    Where most frames agree on no colour, the object hides the background; where they do, it may be
    the object's own colour: so GrabCut (Rother et al. 2004) begins here, and does not end here.
    """
    margin = _margin(*backdrop.known.shape)
    masks = []
    for image in tqdm(images, desc="what turns", unit="image", file=sys.stderr):
        small = _reduced(image)
        exposed = _exposed_as(small.astype(np.float32), backdrop.colours, margin)
        differs = np.abs(exposed - backdrop.colours).max(axis=2) > _DIFFERS
        rough = _labelled(small, differs, backdrop)
        opened = cv2.morphologyEx(rough, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        side = np.ones((_CLOSED, _CLOSED), np.uint8)
        closed = np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, side), np.uint8)
        filled = _filled(_largest(closed))
        height, width = image.shape[:2]
        grown = cv2.resize(filled * 255, (width, height), interpolation=cv2.INTER_LINEAR)
        masks.append(np.asarray((grown > 127).astype(np.uint8) * 255))
    return masks


def widened(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask with a margin, so that corners at the outline keep their surroundings."""
    side = 2 * round(_GROWN * max(mask.shape) / 2) + 1
    return np.asarray(cv2.dilate(mask, np.ones((side, side), np.uint8)))


def _agreed(stack: NDArray[np.float32], median: NDArray[np.float32]) -> Backdrop:
    """The colour on which most of the frames [F, h, w, 3] agree at each pixel.

    The narrowest stretch of brightness that holds a certain share of the frames (half-sample mode).
    """
    grey = stack.mean(axis=3)
    order = np.argsort(grey, axis=0)
    ranked = np.take_along_axis(grey, order, axis=0)
    count = max(3, round(_SEEN_SHARE * len(stack)))
    widths = ranked[count - 1 :] - ranked[: len(stack) - count + 1]
    first = widths.argmin(axis=0)
    inside = first[None] + np.arange(count)[:, None, None]
    frames = np.take_along_axis(order, inside, axis=0)  # [count, h, w]
    agreeing = np.take_along_axis(stack, frames[..., None], axis=0)
    spread = np.ptp(agreeing, axis=0).max(axis=2)
    change = np.percentile(np.abs(stack - median).max(axis=3), _STILL_FRAMES, axis=0)
    return Backdrop(np.median(agreeing, axis=0), spread < 2 * _DIFFERS, change < _STILL_AT_MOST)


def _margin(height: int, width: int) -> NDArray[np.bool_]:
    """The border of an image but for its bottom, where a plate may turn, [height, width]."""
    edge = round(_FRAME * min(height, width))
    margin = np.zeros((height, width), bool)
    margin[:edge] = margin[:, :edge] = margin[:, width - edge :] = True
    return margin


def _exposed_as(
    image: NDArray[np.float32], other: NDArray[np.float32], margin: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """An image [h, w, 3] as bright as another in the margin."""
    gain = np.median((other[margin] + 1) / (image[margin] + 1), axis=0)
    return np.asarray(image * gain, np.float32)


def _labelled(image: Image, differs: NDArray[np.bool_], backdrop: Backdrop) -> NDArray[np.uint8]:
    """What is object, 0 or 1, [h, w]."""
    labels: NDArray[Any] = np.full(differs.shape, cv2.GC_PR_FGD, np.uint8)
    labels[backdrop.known & ~differs] = cv2.GC_PR_BGD
    labels[backdrop.still] = cv2.GC_BGD
    if (labels == cv2.GC_PR_FGD).any() and not (labels == cv2.GC_PR_FGD).all():
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # its clusters are drawn at random
        cv2.grabCut(
            image, labels, (0, 0, 1, 1), *models, _GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK
        )  # fmt: skip
    return np.asarray(labels == cv2.GC_PR_FGD, np.uint8)


def _reduced(image: Image) -> Image:
    scale = _SIZE / max(image.shape[:2])
    return np.asarray(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )


def _largest(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest connected piece of a mask [H, W] of 0 or 1."""
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    return (labels == 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _filled(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask without holes."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled
