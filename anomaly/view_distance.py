"""Good images score higher the farther they are from every view that was seen.

Views of a capture mostly stand at equal distances, so one that is kept out lies in the middle of a
hole, as far from the others as can be, while a query lies anywhere. Their scores are comparable
only after this is taken off; without, a threshold from views kept out is far too cautious.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_STRICTEST = 0.1  # level at no gap at least: nowhere is judged more than ten times as strictly


@dataclass(frozen=True)
class GapLevel:
    """How high good images score at an angle ("gap") to the nearest view: a straight line."""

    start: float = 1.0
    """Level at no gap, relative to that at the reference; at most 1."""
    reference: float = 1.0
    """Gap at which the level is 1, radians."""
    largest: float = math.inf
    """Gap beyond which nothing was measured, so that the level does not grow further, radians."""

    def __call__(self, gap: float) -> float:
        """Score of a good image at this gap (radians), relative to one at the reference."""
        if self.start == 1.0:
            return 1.0
        return self.start + (1.0 - self.start) * min(gap, self.largest) / self.reference


def fit_gap_level(
    gaps: Sequence[float],  # radians, of views kept out
    scores: Sequence[float],  # of the same
    seen_scores: Sequence[float],  # of views that were learnt, whose gap is zero
) -> GapLevel:
    """The line through the typical score of seen views and that of the views kept out.

    Typical is the geometric mean. That scores grow in proportion to the gap is an assumption,
    checked in docs/anomaly.md; they are never taken to fall. Raises ValueError without scores of
    either kind, or for other than positive ones.
    """
    if not len(gaps) == len(scores) > 0 or not seen_scores:
        raise ValueError("the level at a gap needs scores of views kept out and of seen ones")
    if min(*scores, *seen_scores, math.inf) <= 0:
        raise ValueError("the level at a gap needs scores above zero")
    reference = float(np.mean(gaps))
    if reference <= 0:
        return GapLevel()
    start = math.exp(np.log(seen_scores).mean() - np.log(scores).mean())
    return GapLevel(min(max(start, _STRICTEST), 1.0), reference, float(max(gaps)))


def level_out(
    gaps: Sequence[float], scores: Sequence[float], seen_scores: Sequence[float]
) -> tuple[GapLevel, list[float]]:
    """The level, and the scores as if at the reference gap, each by the level of the others.

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
        levelled.append(score * level(fitted.reference) / level(gap))
    return fitted, levelled
