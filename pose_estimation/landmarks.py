"""Landmarks: keypoints of the train views, lifted onto the object, that several views agree on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.spatial import cKDTree
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera
from scene.keypoints import find_keypoints, one_opencv_thread

from .keypoints import lift

_PER_VIEW = 1000  # keypoints of a train view, at most
_FEWEST, _MOST = 60, 16_000  # landmarks: fewer find nothing; so many take 2.3 MB
_SAME_PLACE = 2.5  # pixels: so near lie keypoints of several views that show one point
_SAME_LOOK = 0.85  # cosine of their descriptors
_PAIRS_AT_ONCE = 2**18


class Landmarks(NamedTuple):
    """Points of the object with the look of each from one direction."""

    points: Tensor  # [M, 3] float32, world
    descriptors: Tensor  # [M, 128] uint8
    views: Tensor  # [M] int64, the train view that the look comes from


def make_landmarks(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # V of [3, H, W] in 0..1, as seen by the cameras
) -> Landmarks:
    """Landmarks of a trained object; empty where its surface has no texture.

    What several views show at the same place of the object and alike is kept once. Views keep
    equally many, first those that most others confirm; hardly any that are confirmed are none.
    """
    with one_opencv_thread(), ThreadPoolExecutor(max(1, model.threads)) as pool:
        found = list(pool.map(lambda image: find_keypoints(image, _PER_VIEW), images))
    points, descriptors, views, reach = [], [], [], []
    for view, (camera, keypoints) in enumerate(zip(cameras, found, strict=True)):
        lifted, solid = lift(model, camera, keypoints.pixels)
        depth = (lifted - camera.centre).norm(dim=1)
        points.append(lifted)
        descriptors.append(keypoints.descriptors[solid])
        views.append(torch.full((len(lifted),), view))
        reach.append(_SAME_PLACE * depth / camera.fx)
    every = Landmarks(torch.cat(points).float(), torch.cat(descriptors), torch.cat(views))
    if not len(every.points):
        return every
    kept = _confirmed(every, float(torch.cat(reach).median()))
    return Landmarks(*(part[kept] for part in every))


def _confirmed(every: Landmarks, reach: float) -> Tensor:
    """Indices of the observations to keep, [K] in rising order."""
    alike = _alike(every, reach)
    views = every.views.numpy()
    support = np.diff(alike.indptr)  # how many observations of other views agree
    if np.count_nonzero(support) < _FEWEST:
        return torch.zeros(0, dtype=torch.int64)
    kept = np.zeros(len(views), dtype=bool)
    covered = np.zeros(len(views), dtype=bool)
    for observation in np.lexsort((np.arange(len(views)), -support)):
        if not covered[observation]:
            kept[observation] = True
            covered[alike.indices[alike.indptr[observation] : alike.indptr[observation + 1]]] = True
    chosen = np.flatnonzero(kept)
    order = chosen[np.lexsort((chosen, -support[chosen], views[chosen]))]
    first = np.searchsorted(views[order], views[order])  # where the view of each begins
    rank = np.arange(len(order)) - first
    best = order[np.argsort(rank, kind="stable")[:_MOST]]
    return torch.from_numpy(np.sort(best))


def _alike(every: Landmarks, reach: float) -> coo_array:
    """Which observations of different views show the same place alike: [M, M] sparse, symmetric."""
    points, descriptors, views = (part.numpy() for part in every)
    pairs = cKDTree(points).query_pairs(reach, output_type="ndarray")
    pairs = pairs[views[pairs[:, 0]] != views[pairs[:, 1]]]
    same = [np.zeros(0, dtype=bool)]
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        first, second = (descriptors[side] for side in pairs[start : start + _PAIRS_AT_ONCE].T)
        dots = np.einsum("ij,ij->i", first, second, dtype=np.float32)
        same.append(dots > _SAME_LOOK * 512.0**2)
    pairs = pairs[np.concatenate(same)]
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    ones = np.ones(len(rows), dtype=np.int8)
    return coo_array((ones, (rows, columns)), shape=(len(views), len(views))).tocsr()
