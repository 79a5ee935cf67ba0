"""SIFT keypoints with RootSIFT descriptors (Lowe 2004, Arandjelovic and Zisserman 2012)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

_LARGEST = 480  # pixels: the longer side of the image in which keypoints are looked for
# Below .024 OpenCV rounds its first test to nothing and examines every flat pixel: 4 times slower.
_CONTRAST = 0.025
# Dark and faint texture counts too: contrast is levelled within 8 x 8 tiles (CLAHE), at most so
# many times. On a thin dark object that gives twice the inliers and costs 2 ms.
_LEVELLED, _TILES = 4.0, (8, 8)
_LENGTH = 512.0  # of a descriptor; its values then fit into 8 bits


class Keypoints(NamedTuple):
    """The keypoints of one image."""

    pixels: Tensor  # [M, 2] float64, pixel centres at + 0.5
    descriptors: Tensor  # [M, 128] uint8, of length 512 up to rounding


def find_keypoints(image: Tensor, most: int, exact: bool = False) -> Keypoints:
    """The `most` keypoints of highest contrast in an image [3, H, W] in 0..1, best first.

    OpenCV places them a quarter of a pixel too far right and down unless they are to be `exact`.
    OpenCV's threads give keypoints in any order: callers set them to one (`cv2.setNumThreads`).
    """
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scale = min(1.0, _LARGEST / max(height, width))
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    grey = cv2.createCLAHE(_LEVELLED, _TILES).apply(grey)
    detector = cv2.SIFT.create(
        nfeatures=most, contrastThreshold=_CONTRAST, enable_precise_upscale=exact
    )
    found, described = detector.detectAndCompute(grey, None)
    if not found or described is None:
        empty = torch.zeros(0, 128, dtype=torch.uint8)
        return Keypoints(torch.zeros(0, 2, dtype=torch.float64), empty)
    order = np.argsort([-keypoint.response for keypoint in found], kind="stable")
    places, described = np.array([found[n].pt for n in order]) + 0.5, described[order]
    places *= np.array([width, height]) / np.array([grey.shape[1], grey.shape[0]])
    root = np.sqrt(described / np.maximum(described.sum(axis=1, keepdims=True), 1e-9))
    stored = np.minimum(np.round(_LENGTH * root), 255).astype(np.uint8)
    return Keypoints(torch.from_numpy(places), torch.from_numpy(stored))


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """OpenCV computes in one thread, so that the order of its results is always the same."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
