"""Keypoints of images and points on the object: lifting by depth, and the pose that fits (PnP)."""

import cv2
import numpy as np
import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera
from scene.se3 import inverse

MIN_INLIERS = 8  # of a pose
_SOLID = 0.9  # opacity of the rendering under a keypoint that may be lifted


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
