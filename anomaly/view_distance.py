"""Good images score higher the farther they are from every view that was learnt.

Views of a capture mostly stand at equal distances, so one that is held out lies in the middle of a
hole, as far from the others as can be, while a query lies anywhere. Their scores are comparable
only after this is taken off; without, a threshold from held-out views is far too cautious.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_SMALLEST_START = 0.1  # nowhere are scores taken to be more than ten times as low


def view_angles(
    rotations: Tensor,  # [V, 3, 3] world to camera
    rotation: Tensor,  # [..., 3, 3]
    roll_weight: float = 1.0,
) -> Tensor:
    """Angles between views and queries, radians, [..., V].

    With `roll_weight` 1 that of the relative rotation, with 0 that of the optical axes (never
    larger), in between their blend in squares.
    """
    ours = rotation.detach().to("cpu", torch.float64)
    trace = (rotations * ours[..., None, :, :]).sum(dim=(-2, -1))
    full = (((trace - 1.0) / 2.0).clamp(-1.0, 1.0)).acos()
    axes = (rotations[:, 2] @ ours[..., 2, :, None])[..., 0].clamp(-1.0, 1.0).acos()
    return (axes.square() * (1.0 - roll_weight) + full.square() * roll_weight).sqrt()


@dataclass(frozen=True)
class ViewDistanceScale:
    """Scale of good scores at an angle ("distance") to the nearest view: a straight line."""

    start: float = 1.0
    """Scale at a learnt view, relative to that at the reference; at most 1."""
    reference: float = 1.0
    """Distance at which the scale is 1, radians."""
    largest: float = math.inf
    """Distance beyond which nothing was measured, so that the scale does not grow, radians."""

    def __call__(self, distance: float) -> float:
        """Score of a good image at this distance (radians), relative to one at the reference."""
        if self.start == 1.0:
            return 1.0
        return self.start + (1.0 - self.start) * min(distance, self.largest) / self.reference


def fit_view_distance_scale(
    distances: Sequence[float],  # radians, of held-out views
    scores: Sequence[float],  # of the same
    train_scores: Sequence[float],  # of views that were learnt, whose distance is zero
) -> ViewDistanceScale:
    """The line through the typical score of train views and that of held-out views.

    Typical is the geometric mean. That scores grow in proportion to the distance is an assumption,
    checked in docs/anomaly.md; they are never taken to fall. Raises ValueError without scores of
    either kind, or for other than positive ones.
    """
    if not len(distances) == len(scores) > 0 or not train_scores:
        raise ValueError("the scale with the distance needs scores of held-out and of train views")
    if min(*scores, *train_scores, math.inf) <= 0:
        raise ValueError("the scale with the distance needs scores above zero")
    reference = float(np.mean(distances))
    if reference <= 0:
        return ViewDistanceScale()
    start = math.exp(np.log(train_scores).mean() - np.log(scores).mean())
    largest = float(max(distances))
    return ViewDistanceScale(min(max(start, _SMALLEST_START), 1.0), reference, largest)


def rescale_scores(
    distances: Sequence[float], scores: Sequence[float], train_scores: Sequence[float]
) -> tuple[ViewDistanceScale, list[float]]:
    """The scale, and the scores as if at the reference distance, each by the scale of the others.

    As with the unit of the map, a view has no say in what its own score is divided by.
    Raises as `fit_view_distance_scale` does.
    """
    fitted = fit_view_distance_scale(distances, scores, train_scores)
    rescaled = []
    for view, (distance, score) in enumerate(zip(distances, scores, strict=True)):
        others = [index for index in range(len(scores)) if index != view] or [view]
        scale = fit_view_distance_scale(
            [distances[index] for index in others], [scores[index] for index in others],
            train_scores,
        )  # fmt: skip
        rescaled.append(score * scale(fitted.reference) / scale(distance))
    return fitted, rescaled
