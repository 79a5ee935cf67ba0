"""Which part of a scene is the object, and its masks, without a network.

A short model of the scene is cut: by a sphere around the point that all cameras look at, by the
ground plane, and to the largest cluster. What the rest shows in a photograph is its mask; GrabCut
sharpens its edge, and the visual hull takes away what other views see through.
"""

import sys
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer import ObjectRenderer
from scene import Camera, Gaussians, InputError, VisualHull, grabcut_outline, visual_hull

from .geometry import Array, Plane

_OPAQUE = 0.1  # Gaussians of less opacity are not asked where the object is
_SPHERE = 1.15  # times what cameras show of the middle, half across
_CELLS = 40  # of the grid, along the radius of the sphere
_SAMPLES = 6  # of each Gaussian, by which it fills the grid
_SECOND = 0.5  # of the first cluster's weight: then there are two objects
_ABOVE_PLANE = 0.008  # of the radius: the least thickness of what is cut away with the ground
_SPREADS = 3.0  # of the points on the plane: likewise
_HULL_VOXELS = 128
_HULL_TOLERATED = 0.06  # of the views, by which an occluded voxel survives
_BAND = 0.012  # of the longer side: half the width of the band in which GrabCut decides
_GRABCUT_SIZE = 800  # pixels of the longer side
_AGREEMENT = 0.85  # IoU below which GrabCut's outline is not believed

Box = tuple[float, float, float, float, float, float]  # lowest x, y, z, highest x, y, z


def sphere_radius(cameras: Sequence[Camera], focus: Array) -> float:
    """How far from the focus everything is seen by half of the cameras, with a margin."""
    reach = []
    for camera in cameras:
        distance = float(np.linalg.norm(camera.centre.numpy() - focus))
        reach.append(distance * 0.5 * min(camera.width / camera.fx, camera.height / camera.fy))
    return _SPHERE * float(np.median(reach))


def isolate(
    gaussians: Gaussians, focus: Array, radius: float, plane: Plane | None
) -> NDArray[np.bool_]:
    """The object's Gaussians, [N].

    Raises:
        InputError: nothing is left, or two objects stand side by side.
    """
    means = gaussians.means.detach().double().numpy()
    near = np.linalg.norm(means - focus, axis=1) < radius
    if plane is not None:
        near &= plane.height(means) > max(_ABOVE_PLANE * radius, _SPREADS * plane.spread)
    solid = near & (gaussians.opacities.detach().numpy() > _OPAQUE)
    if not solid.any():
        raise InputError(
            "Nothing stands where the photographs look: aim all of them at the object, or give "
            "masks with --masks."
        )
    grid = _occupancy(gaussians, solid, focus, radius)
    labels, count = ndimage.label(grid > 0, np.ones((3, 3, 3)))
    cells = np.argwhere(grid > 0)
    away = np.linalg.norm(cells + 0.5 - np.array(grid.shape) / 2, axis=1) / _CELLS
    opacity = grid[tuple(cells.T)] * np.exp(-2 * away**2)
    weights = np.asarray(np.bincount(labels[tuple(cells.T)], opacity, count + 1), np.float64)
    order = np.argsort(weights[1:])[::-1] + 1
    _refuse_two(weights[order], labels, order)
    kept = ndimage.binary_dilation(labels == order[0], iterations=1)
    place = np.floor((means - focus) / radius * _CELLS + np.array(grid.shape) / 2).astype(int)
    inside = ((place >= 0) & (place < grid.shape)).all(axis=1)
    clipped = np.clip(place, 0, np.array(grid.shape) - 1)
    return np.asarray(near & inside & kept[tuple(clipped.T)], np.bool_)


def within_boxes(points: Array, keep: Box | None, cut: Box | None) -> NDArray[np.bool_]:
    """Which points [N, 3] lie in the box to keep and not in the one to cut away, [N]."""
    kept = np.ones(len(points), bool)
    if keep is not None:
        kept &= _inside(points, keep)
    if cut is not None:
        kept &= ~_inside(points, cut)
    return kept


def rendered_mask(
    model: ObjectRenderer, chosen: NDArray[np.bool_], camera: Camera
) -> NDArray[np.float32]:
    """How much of each pixel shows the object, in front of and behind the rest, [H, W]."""
    flag = torch.from_numpy(chosen.astype(np.float32))[:, None]
    with torch.no_grad():
        shown = model.channels(camera, flag, torch.zeros(1)).image
    return np.asarray(shown[0].clamp(0, 1).numpy(), np.float32)


def sharpened(
    photograph: NDArray[np.uint8],  # [H, W, 3]
    mask: NDArray[np.float32],  # [h, w] in 0..1, smaller
) -> NDArray[np.uint8]:
    """The mask at the photograph's size, its edge where the colours change, [H, W] in 0..255.

    GrabCut (Rother et al. 2004) decides within a band around the edge; where its outline is far
    from the mask's, the mask stays.
    """
    height, width = photograph.shape[:2]
    scale = min(1.0, _GRABCUT_SIZE / max(height, width))
    size = (round(width * scale), round(height * scale))
    small = np.asarray(cv2.resize(photograph, size, interpolation=cv2.INTER_AREA), np.uint8)
    soft = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
    hard = (soft > 0.5).astype(np.uint8)
    outline = grabcut_outline(small, hard > 0, max(1, round(_BAND * max(size))))
    cut, found = outline.astype(np.uint8), hard
    union = float((cut | hard).sum())
    if union and float((cut & hard).sum()) / union > _AGREEMENT:
        found = np.asarray(cv2.medianBlur(cut, 5), np.uint8)
    edge = cv2.GaussianBlur(found.astype(np.float32), (3, 3), 0)
    full = cv2.resize(edge, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.round(full * 255), np.uint8)


def consistent(
    masks: Sequence[NDArray[np.uint8]],  # [h, w] each, of the cameras' sizes
    cameras: Sequence[Camera],
) -> list[NDArray[np.bool_]]:
    """Where each mask may be, by all others: the visual hull as each camera sees it."""
    outlines = [torch.from_numpy(mask > 127) for mask in masks]
    hull = visual_hull(cameras, outlines, _HULL_VOXELS, _HULL_TOLERATED)
    bar = tqdm(cameras, desc="visual hull", unit="image", file=sys.stderr)
    return [hull_silhouette(hull, camera) for camera in bar]


def without_holes(
    mask: NDArray[np.uint8],  # [H, W] of 0..255
    allowed: NDArray[np.bool_],  # [H, W], what the hull shows
) -> NDArray[np.uint8]:
    """The mask with those enclosed holes filled that the hull does not have: a smooth patch."""
    count, labels = cv2.connectedComponents((mask <= 127).astype(np.uint8), connectivity=4)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    seen_through = np.unique(np.concatenate([border, labels[~allowed]]))
    is_hole = np.ones(count, bool)
    is_hole[0] = False  # component 0 is the object itself
    is_hole[seen_through] = False
    filled = mask.copy()
    filled[is_hole[labels]] = 255
    return filled


def hull_silhouette(hull: VisualHull, camera: Camera) -> NDArray[np.bool_]:
    """What a camera sees of a hull, a voxel wider than it is, [H, W]."""
    shown = np.zeros((camera.height, camera.width), np.uint8)
    points: Tensor = hull.surface_points()
    columns, rows, depths = (values.numpy() for values in camera.project(points))
    ahead = depths > 0
    across = 2 * hull.voxel * camera.fx / float(np.median(depths[ahead]))
    inside = ahead & (columns >= 0) & (columns < camera.width)
    inside &= (rows >= 0) & (rows < camera.height)
    shown[rows[inside].astype(int), columns[inside].astype(int)] = 1
    side = 2 * max(1, round(across)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(shown, cv2.MORPH_CLOSE, kernel) > 0) | np.asarray(
        cv2.dilate(shown, np.ones((3, 3), np.uint8)) > 0
    )


def _occupancy(
    gaussians: Gaussians, solid: NDArray[np.bool_], focus: Array, radius: float
) -> NDArray[np.float64]:
    """Opacity per cell of a grid around the focus; Gaussians fill the cells that they reach."""
    generator = torch.Generator().manual_seed(0)
    chosen = gaussians.detach().map(lambda t: t[torch.from_numpy(solid)])
    drawn = torch.randn(len(chosen), _SAMPLES, 3, generator=generator)
    from_middle = drawn * chosen.scales[:, None]
    w, x, y, z = chosen.rotations[:, None].unbind(-1)
    axis = torch.stack([x, y, z], -1).expand_as(from_middle)
    twice = 2 * torch.cross(axis, from_middle, dim=-1)
    turned = from_middle + w[..., None] * twice + torch.cross(axis, twice, dim=-1)
    points = (chosen.means[:, None] + turned).reshape(-1, 3).double().numpy()
    weights = chosen.opacities.repeat_interleave(_SAMPLES).double().numpy() / _SAMPLES
    place = np.floor((points - focus) / radius * _CELLS).astype(int) + _CELLS + 1
    side = 2 * _CELLS + 2
    inside = ((place >= 0) & (place < side)).all(axis=1)
    flat = np.ravel_multi_index(tuple(place[inside].T), (side,) * 3)
    filled: Array = np.bincount(flat, weights[inside], side**3).astype(np.float64)
    return filled.reshape((side,) * 3)


def _refuse_two(weights: Array, labels: NDArray[np.int32], order: NDArray[np.intp]) -> None:
    """Raises InputError where a second cluster is about as heavy as the first."""
    if len(weights) > 1 and weights[1] > _SECOND * weights[0]:
        centres = ndimage.center_of_mass(labels > 0, labels, order[:2])
        apart = float(np.linalg.norm(np.subtract(*centres))) / _CELLS
        raise InputError(
            f"Two objects stand {apart:.1f} radii apart in the middle of the photographs: take one "
            "away, or give masks of the other with --masks."
        )


def _inside(points: Array, box: Box) -> NDArray[np.bool_]:
    low, high = np.array(box[:3]), np.array(box[3:])
    return np.asarray(((points >= low) & (points <= high)).all(axis=1))
