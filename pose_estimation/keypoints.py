"""SIFT keypoints with RootSIFT descriptors (Lowe 2004, Arandjelovic and Zisserman 2012)."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera
from scene.se3 import inverse

_LARGEST = 480  # pixels: the longer side of the image in which keypoints are looked for
# Below .024 OpenCV rounds its first test to nothing and examines every flat pixel: 4 times slower.
_CONTRAST = 0.025
# Dark and faint texture counts too: contrast is levelled within 8 x 8 tiles (CLAHE), at most so
# many times. On a thin dark object that gives twice the inliers and costs 2 ms.
_LEVELLED, _TILES = 4.0, (8, 8)
_LENGTH = 512.0  # of a descriptor; its values then fit into 8 bits
MIN_INLIERS = 8  # of a pose
_SOLID = 0.9  # opacity of the rendering under a keypoint that may be lifted


class Keypoints(NamedTuple):
    """The keypoints of one image."""

    pixels: Tensor  # [M, 2] float64, pixel centres at + 0.5
    descriptors: Tensor  # [M, 128] uint8, of length 512 up to rounding


def find_keypoints(image: Tensor, most: int) -> Keypoints:
    """The `most` keypoints of highest contrast in an image [3, H, W] in 0..1, best first.

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
    detector = cv2.SIFT.create(nfeatures=most, contrastThreshold=_CONTRAST)
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


def lift(model: ObjectRenderer, camera: Camera, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Points on the object under pixels [M, 2]: world [S, 3] float64, and which were solid [M].

    Where the rendering is nearly opaque its depth says how far away the point lies.
    """
    with torch.no_grad():
        seen = model(camera, depth=True)
    if seen.depth is None:
        raise RuntimeError("the renderer gave no depth although it was asked for")
    x, y = pixels.long().unbind(1)
    x, y = x.clamp(0, camera.width - 1), y.clamp(0, camera.height - 1)
    solid = seen.alpha.cpu()[y, x] > _SOLID
    z = seen.depth.cpu().double()[y, x][solid]
    pixel = pixels[solid]
    ray_x, ray_y = (pixel[:, 0] - camera.cx) / camera.fx, (pixel[:, 1] - camera.cy) / camera.fy
    local = torch.stack([ray_x * z, ray_y * z, z], dim=1)
    to_world = inverse(camera.world_to_camera)
    return local @ to_world[:3, :3].T + to_world[:3, 3], solid


def solve_pnp(
    points: Tensor, pixels: Tensor, camera: Camera, tolerance: float
) -> tuple[Tensor, int] | None:
    """World_to_camera [4, 4] by which pixels [P, 2] show points [P, 3], and the number of inliers.

    RANSAC, then Levenberg-Marquardt on the inliers: those within `tolerance` pixels of an image of
    400 pixels. None with fewer than `MIN_INLIERS`.
    """
    if len(points) < MIN_INLIERS:
        return None
    world, image, matrix = points.numpy(), pixels.numpy(), camera.intrinsics.numpy()
    cv2.setRNGSeed(0)  # the same query gives the same pose
    found, rotation, translation, inliers = cv2.solvePnPRansac(
        world, image, matrix, None, iterationsCount=1000, confidence=0.999,
        reprojectionError=tolerance * max(camera.width, camera.height) / 400,
        flags=cv2.USAC_ACCURATE,
    )  # fmt: skip
    if not found or inliers is None or len(inliers) < MIN_INLIERS:
        return None
    kept = inliers[:, 0]
    rotation, translation = cv2.solvePnPRefineLM(
        world[kept], image[kept], matrix, None, rotation, translation
    )
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(rotation)[0], translation[:, 0]
    return (torch.from_numpy(pose), len(kept)) if np.isfinite(pose).all() else None
