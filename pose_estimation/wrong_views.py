"""Posed views that a trained model contradicts: it shows them elsewhere, far better.

A model stands where most of its views put it, so a few wrong poses are told by their residuals.
Only views whose residual is far above the rest are searched for, so that a capture without such
views costs one rendering each.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera, InputError

from .errors import reprojection_shift
from .matchers import select_matcher
from .refine import estimate_pose
from .settings import PoseSettings
from .templates import build_gallery

_SPREADS, _LEAST_SPREAD = 4.0, 0.2  # robust deviations of the logarithms above the median
_FEWEST = 5  # views that can say what residuals are usual
_FAR = 0.02  # of the image's side, between input pose and found pose
_BETTER = 0.6  # of the residual at the input pose, at most, at the found one
_POINTS = 1000  # of the object, whose place in the image tells two poses apart


class WrongView(NamedTuple):
    """A view at a wrong input pose."""

    number: int
    world_to_camera: Tensor  # [4, 4] float64: where the model finds it
    shift: float  # pixels, from the input pose


@torch.no_grad()
def view_residuals(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Iterable[Tensor],  # V of [3, H, W] in 0..1
) -> list[float]:
    """Mean absolute difference of every view from its rendering."""
    pairs = zip(cameras, images, strict=True)
    return [float((model(c).image.clamp(0, 1) - image).abs().mean()) for c, image in pairs]


def far_above_the_rest(
    residuals: Sequence[float],
    held_out: Sequence[bool] | None = None,  # whether the model has not seen the view
) -> list[int]:
    """Numbers of the residuals that are outliers upwards; none of fewer than five.

    Views that the model has not seen fit less well: they are compared with one another.
    """
    logs = np.log(np.maximum(residuals, 1e-6))
    is_held_out = np.zeros(len(logs), bool) if held_out is None else np.array(held_out, bool)
    outliers: list[int] = []
    for group in (~is_held_out, is_held_out):
        if np.count_nonzero(group) < _FEWEST:
            continue
        middle = float(np.median(logs[group]))
        spread = max(1.4826 * float(np.median(np.abs(logs[group] - middle))), _LEAST_SPREAD)
        outliers += np.flatnonzero(group & (logs > middle + _SPREADS * spread)).tolist()
    return sorted(outliers)


def wrong_views(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # V of [3, H, W] in 0..1
    silhouettes: Sequence[Tensor] | None,  # V of [H, W] bool; None without a plain background
    suspicious: Sequence[int],  # numbers of views; the others are trusted
) -> list[WrongView]:
    """Those of the suspicious views that the model shows far from their input pose, far better."""
    rest = sorted(set(range(len(cameras))) - set(suspicious))
    if not suspicious or not rest:
        return []
    try:
        gallery = build_gallery(
            model, [cameras[n] for n in rest], [images[n] for n in rest],
            None if silhouettes is None else [silhouettes[n] for n in rest],
        )  # fmt: skip
    except InputError:  # nothing can be found in such a model, so it contradicts nobody
        return []
    matcher = select_matcher("auto", gallery, model).matcher
    points = model.gaussians.means[:: max(1, len(model.gaussians) // _POINTS)].detach().cpu()
    wrong = []
    for number in suspicious:
        camera, image = cameras[number], images[number]
        hypotheses = matcher.coarse_poses(image, camera)
        found = estimate_pose(model, camera, image, hypotheses, PoseSettings()).world_to_camera
        moved = camera.at(found)
        shift = reprojection_shift(points, camera, moved)
        before, after = view_residuals(model, [camera, moved], [image, image])
        is_far = shift > _FAR * max(camera.width, camera.height)
        if is_far and math.isfinite(after) and after < _BETTER * before:
            wrong.append(WrongView(number, found, shift))
    return wrong
