"""Good images score higher the farther they are from every view that was seen.

Views of a capture mostly stand at equal distances, so one that is kept out lies in the middle of a
hole, as far from the others as can be, while a query lies anywhere. Their scores are comparable
only after this is taken off; without, a threshold from views kept out is far too cautious.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GapLevel:
    """How high good images score at an angle ("gap") to the nearest view."""

    rate: float = 0.0
    """Growth of the logarithm of the score, per radian."""
    reference: float = 0.0
    """Gap at which the level is 1, radians."""
    largest: float = math.inf
    """Gap beyond which nothing was measured, so that the level does not grow further, radians."""

    def __call__(self, gap: float) -> float:
        """Score of a good image at this gap (radians), relative to one at the reference."""
        return math.exp(self.rate * (min(gap, self.largest) - self.reference))


def fit_gap_level(
    gaps: Sequence[float],  # radians, of views kept out
    scores: Sequence[float],  # of the same
    seen_scores: Sequence[float],  # of views that were learnt, whose gap is zero
) -> GapLevel:
    """The line through the mean log-score of seen views and that of the views kept out.

    Log-linear growth between the two is an assumption, checked in docs/anomaly.md. The level never
    falls with the gap. Raises ValueError without scores of either kind, or for other than positive
    ones.
    """
    if not len(gaps) == len(scores) > 0 or not seen_scores:
        raise ValueError("the level at a gap needs scores of views kept out and of seen ones")
    if min(*scores, *seen_scores, math.inf) <= 0:
        raise ValueError("the level at a gap needs scores above zero")
    reference = float(np.mean(gaps))
    rise = float(np.log(scores).mean() - np.log(seen_scores).mean())
    rate = max(0.0, rise / reference) if reference > 0 else 0.0
    return GapLevel(rate, reference, float(max(gaps)))


def level_out(
    gaps: Sequence[float], scores: Sequence[float], seen_scores: Sequence[float]
) -> tuple[GapLevel, list[float]]:
    """The level, and the scores at the reference gap, each by the level that the others give.

    As with the unit of the map, a view has no say in what its own score is divided by.
    Raises as `fit_gap_level` does.
    """
    fitted = fit_gap_level(gaps, scores, seen_scores)
    levelled = []
    for view, (gap, score) in enumerate(zip(gaps, scores, strict=True)):
        others = [index for index in range(len(scores)) if index != view] or [view]
        level = fit_gap_level(
            [gaps[index] for index in others], [scores[index] for index in others], seen_scores
        )
        moved = level(gap) * math.exp(level.rate * (level.reference - fitted.reference))
        levelled.append(score / moved)
    return fitted, levelled
