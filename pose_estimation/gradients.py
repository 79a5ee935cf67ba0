"""What templates of gradient directions compare: edge directions and colours, place by place.

After Hinterstoisser et al. 2012 (LINEMOD): directions are quantised, without sign because what
stands behind the object is unknown, and every response is spread over the neighbourhood, so that a
template may lie a few pixels off. Colours of the object are further channels of the same maps.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]

BINS = 8  # directions of an edge, over half a turn
FULL = 4  # the largest response
_NEXT_BIN = 2  # response of an edge one bin off
_BLUR = 0.8  # pixels, before derivatives are taken
_FAINT = 0.02  # of the range of colours, per pixel: weaker edges have no direction
_AGREEING = 4  # of the 3 x 3 neighbours: as many share the direction of an edge that counts
_LIGHTNESS = 0.5  # weight against hue: shading differs more than it
_COLOUR_SPREAD = 14.0  # standard deviation in these units of Lab
_COLOUR_REACH = 3  # pixels a side over which colours are spread


def edges(image: Floats) -> tuple[Floats, Floats]:
    """Directions across edges, radians in [0, pi), and strengths per pixel: [H, W] each.

    Of several channels [H, W, C] the strongest derivative counts.
    """
    smooth = cv2.GaussianBlur(image, (0, 0), _BLUR)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    if image.ndim == 3:
        strongest = (across**2 + down**2).argmax(axis=2)[..., None]
        across, down = (np.take_along_axis(d, strongest, 2)[..., 0] for d in (across, down))
    return np.arctan2(down, across) % np.float32(math.pi), np.hypot(across, down)


def direction_bins(directions: NDArray[np.floating]) -> Whole:
    """The bins 0 .. BINS - 1 of directions, radians; half a turn makes no difference."""
    return np.rint(directions * (BINS / math.pi)).astype(np.int64) % BINS


def colours_of(image: Floats) -> Floats:
    """Colours [H, W, 3] in 0..1 as they are compared: Lab, with less weight on lightness."""
    weights = np.array([_LIGHTNESS, 1.0, 1.0], np.float32)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2Lab), np.float32) * weights


def palette_of(colours: Floats, count: int) -> Floats:
    """At most `count` colours that stand for colours [N, 3]: k-means from far-apart ones."""
    chosen = colours[scattered(colours, count)]
    for _ in range(10):
        nearest = nearest_colours(colours, chosen)
        members = [colours[nearest == k] for k in range(len(chosen))]
        chosen = np.stack([own.mean(axis=0) for own in members if len(own)])
    return chosen


def nearest_colours(colours: Floats, palette: Floats) -> Whole:
    """The index in the palette [K, 3] of each of colours [N, 3]."""
    return ((colours[:, None] - palette) ** 2).sum(axis=2).argmin(axis=1)


def scattered(points: Floats, count: int, weights: Floats | None = None) -> Whole:
    """Indices [count] of points [N, D] far from each other, those with larger weights [N] rather.

    Each is the point for which the squared distance to those before, times its weight, is largest.
    Of fewer points than `count`, some come more than once. There is one at least.
    """
    weights = np.ones(len(points), np.float32) if weights is None else weights
    chosen = [int(weights.argmax())]
    distance = np.full(len(points), np.inf, np.float32)
    while len(chosen) < count:
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int((distance * weights).argmax()))
    return np.array(chosen)


def response_maps(image: Floats, palette: Floats, reach: int) -> Bytes:
    """How well each place of an image [H, W, 3] answers to each channel, [BINS + K, H, W], 0..FULL.

    Channels are the directions of edges, spread over `reach` pixels a side, and the K colours of
    the palette.
    """
    return np.concatenate([
        _spread(_edge_places(image), reach), _colour_responses(image, palette),
    ])  # fmt: skip


def graded_maps(image: Floats, palette: Floats, reaches: Sequence[int]) -> Bytes:
    """Sums of `response_maps` over several reaches, which fall off with the distance from an edge.

    They are 0..FULL * len(reaches).
    """
    places = _edge_places(image)
    graded = np.sum([_spread(places, reach) for reach in reaches], axis=0, dtype=np.uint8)
    return np.concatenate([graded, len(reaches) * _colour_responses(image, palette)])


def _edge_places(image: Floats) -> Bytes:
    """Where an image has edges of each direction, [BINS, H, W], 0 or 1."""
    direction, strength = edges(image)
    bins, clear = direction_bins(direction), strength > _FAINT
    here = [((bins == k) & clear).astype(np.uint8) for k in range(BINS)]
    votes = np.stack([
        cv2.boxFilter(own, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for own in here
    ])  # fmt: skip
    return ((votes == votes.max(axis=0)) & (votes >= _AGREEING) & clear).astype(np.uint8)


def _spread(places: Bytes, reach: int) -> Bytes:
    """Responses to edges at `places` [BINS, H, W] within `reach` pixels a side."""
    spread = np.stack([cv2.dilate(own, np.ones((reach, reach))) for own in places])
    beside = np.maximum(np.roll(spread, 1, axis=0), np.roll(spread, -1, axis=0))
    return np.maximum(FULL * spread, _NEXT_BIN * beside)


def _colour_responses(image: Floats, palette: Floats) -> Bytes:
    distance = ((colours_of(image) - palette[:, None, None]) ** 2).sum(axis=3)
    alike = np.rint(FULL * np.exp(-distance / (2 * _COLOUR_SPREAD**2))).astype(np.uint8)
    return np.stack([cv2.dilate(own, np.ones((_COLOUR_REACH, _COLOUR_REACH))) for own in alike])
