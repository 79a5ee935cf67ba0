"""The focal length of the queries' camera, where nobody tells it: fitted with their poses.

How strong the perspective is tells focal length from distance; so an object that is deep for its
distance determines it, a flat or distant one does not.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pose_estimation import PoseEstimate
from scene import Camera, InputError, QueryLens, image_size
from scene.readers.camera_file import pinhole_lens

from .inspector import Inspector

_QUERIES = 7  # that are looked at
_OCTAVES, _STEPS = 1.0, 9  # of focal lengths to both sides of the train views', and their number
_HALVINGS = 3  # of the step, around the best
_NEAR = 0.3  # octaves around the best, over which a parabola is laid
_AGREES = 0.05  # median deviation of the logarithm, of queries of one camera
_LEAST = 3  # queries that must tell it, and half of those that are looked at


def fit_focal(inspector: Inspector, paths: Sequence[Path]) -> QueryLens:
    """The camera of queries by what the object looks like in some of them.

    A pinhole with square pixels; of another aspect than the train views', with its axis in the
    middle.

    Raises:
        InputError: they do not determine it.
    """
    found: list[float] = []
    sizes: set[tuple[int, int]] = set()
    chosen = np.unique(np.linspace(0, len(paths) - 1, _QUERIES).astype(int)).tolist()
    for number in chosen if len(paths) >= _LEAST else []:
        with suppress(InputError):  # it is an error of its own when it is inspected
            size = image_size(paths[number])
            scale = _scale_of(inspector, paths[number], size)
            sizes.add(size)
            found += [] if scale is None else [math.log(scale)]
    middle = float(np.median(found)) if found else 0.0
    spread = float(np.median(np.abs(np.asarray(found) - middle))) if found else math.inf
    if len(found) < max(_LEAST, len(chosen) / 2) or spread > _AGREES or len(sizes) != 1:
        told = ", ".join(f"{math.exp(value):.2f}" for value in found) or "none"
        raise InputError(
            f"--camera fit: focal lengths found in {len(paths)} images, times that of the train "
            f"views: {told}; at least {_LEAST} of one size must agree. The object must be before "
            "a plain background or cut out (--masks); else name a camera file."
        )
    source = f"a fit to {len(found)} of the images"
    return _lens(inspector.camera, sizes.pop(), math.exp(middle), source)


def _scale_of(inspector: Inspector, path: Path, size: tuple[int, int]) -> float | None:
    """The focal length of a query, times that of the train views; None where no pose fits.

    The query keeps its pixels and the model's camera is changed, so that all are compared at one
    resolution: a query that is reduced fits better.
    """
    setup = replace(inspector.setup, lens=_lens(inspector.camera, size, 1.0, "a fit"))
    image = replace(inspector.reader, setup=setup)(path).image
    grid = np.exp2(np.linspace(-_OCTAVES, _OCTAVES, _STEPS))
    tried = {float(scale): _fit(inspector, image, float(scale), None) for scale in grid}
    best = min(tried, key=lambda scale: tried[scale].loss)
    step = 2 * _OCTAVES / (_STEPS - 1)
    for _ in range(_HALVINGS):
        step *= 0.5
        for scale in (best * 2**-step, best * 2**step):
            start = _farther(inspector, tried[best], scale / best)
            tried[scale] = _fit(inspector, image, scale, start)
        best = min(tried, key=lambda scale: tried[scale].loss)
    if not grid[0] < best < grid[-1] or tried[best].pose_ok is False:
        return None
    near = [scale for scale in tried if abs(math.log2(scale / best)) < _NEAR]
    curve = np.polyfit(np.log(np.asarray(near) / best), [tried[scale].loss for scale in near], 2)
    vertex = -0.5 * curve[1] / curve[0] if curve[0] > 0 else 0.0
    return best * math.exp(vertex) if abs(vertex) < _NEAR else best


def _fit(
    inspector: Inspector, image: torch.Tensor, scale: float, start: torch.Tensor | None
) -> PoseEstimate:
    """The pose of a query [3, H, W] by that focal length, from a pose [4, 4] or from nothing."""
    camera = inspector.camera
    changed = replace(inspector, camera=replace(camera, fx=camera.fx * scale, fy=camera.fy * scale))
    return changed.locate(image[None])[0] if start is None else changed.refined(image, start)


def _farther(inspector: Inspector, pose: PoseEstimate, ratio: float) -> torch.Tensor:
    """A pose [4, 4] at which the object is as many times as far away."""
    moved = pose.world_to_camera.clone()
    middle = moved[:3, :3] @ inspector.model.gaussians.means.detach().mean(dim=0).to(moved)
    moved[:3, 3] = (middle + moved[:3, 3]) * ratio - middle
    return moved


def _lens(model: Camera, size: tuple[int, int], scale: float, source: str) -> QueryLens:
    """A pinhole of the model's field of view over the longer side, `scale` times as long."""
    width, height = size
    enlarged = scale * max(size) / max(model.width, model.height)
    is_same = abs(width * model.height - height * model.width) <= 2 * max(width, height)
    centre = (model.cx / model.width, model.cy / model.height) if is_same else (0.5, 0.5)
    camera = Camera(
        torch.eye(4, dtype=torch.float64), model.fx * enlarged, model.fy * enlarged,
        centre[0] * width, centre[1] * height, width, height,
    )  # fmt: skip
    return QueryLens(pinhole_lens(camera), size, model, source)
