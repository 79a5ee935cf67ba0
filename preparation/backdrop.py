"""A fixed camera before which the object turns: the median over the frames is the background.

What stands still in the image would be taken for the world, and the turning object for an
exception; so structure from motion is shown the object alone.
"""

import sys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

_SIZE = 320  # pixels of the longer side of the images that are compared
_FRAME = 0.1  # of the image, the margin at its border in which nothing turns
_STILL = 7.0  # of 255: a pixel that changes less over the frames stands still
_STILL_SHARE = 0.7  # of that margin that must stand still
_TURNING_SHARE = 0.03  # of the image that must not
_DIFFERS = 18.0  # of 255: from the background, in any channel
_SEEN_SHARE = 0.5  # of the frames that show the background somewhere, for it to be known
_GROWN = 0.02  # of the longer side, by which the masks of structure from motion are wider
_LONGEST_SAMPLE = 60  # frames of which the median is taken

Image = NDArray[np.uint8]  # [H, W, 3]


def still_background(images: Sequence[Image]) -> Image | None:
    """The background at a reduced size, where the camera stands still; else None.

    `images` are of one size, at most some 60 of them.
    """
    small = np.stack([_reduced(image) for image in images]).astype(np.float32)
    background = np.median(small, axis=0)
    spread = 1.4826 * np.median(np.abs(small - background), axis=0).max(axis=2)  # [H, W]
    height, width = spread.shape
    edge = round(_FRAME * min(height, width))
    margin = np.zeros_like(spread, bool)  # not at the bottom, where a plate may turn
    margin[:edge] = margin[:, :edge] = margin[:, width - edge :] = True
    stands_still = float((spread < _STILL)[margin].mean()) > _STILL_SHARE
    turns = float((spread[edge:-edge, edge:-edge] > _STILL).mean()) > _TURNING_SHARE
    has_structure = float(cv2.Laplacian(background.astype(np.uint8), cv2.CV_32F).std()) > 1.0
    return background.astype(np.uint8) if stands_still and turns and has_structure else None


def foreground_masks(
    images: Sequence[Image], background: Image, progress: str
) -> list[NDArray[np.uint8]]:
    """What differs from the background, [H, W] of 0 or 255 at the images' sizes.

    Where the object hides the background in most frames, nothing says what is behind it: such
    pixels belong to the object, if they hang together with what differs.
    """
    sample = images[:: max(1, len(images) // _LONGEST_SAMPLE)]
    small = np.stack([_reduced(image) for image in sample]).astype(np.float32)
    near = np.abs(small - background.astype(np.float32)).max(axis=3) < _DIFFERS
    unknown = near.mean(axis=0) < _SEEN_SHARE  # [H, W]
    masks = []
    for image in tqdm(images, desc=progress, unit="image", file=sys.stderr):
        difference = np.abs(_reduced(image).astype(np.float32) - background).max(axis=2)
        differs = ((difference > _DIFFERS) | unknown).astype(np.uint8)
        differs = cv2.morphologyEx(differs, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        differs = cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
        filled = _filled(_largest(differs))
        height, width = image.shape[:2]
        grown = cv2.resize(filled * 255, (width, height), interpolation=cv2.INTER_LINEAR)
        masks.append(np.asarray((grown > 127).astype(np.uint8) * 255))
    return masks


def widened(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask with a margin, so that corners at the outline keep their surroundings."""
    side = 2 * round(_GROWN * max(mask.shape) / 2) + 1
    return np.asarray(cv2.dilate(mask, np.ones((side, side), np.uint8)))


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
