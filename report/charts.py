"""What the two charts show: the histogram of scores and the ROC curve over images.

Positions are shares of an axis, 0 to 1; templates/charts.html.jinja draws them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anomaly.ranking import roc_curve

_BINS = 24
_LOG_SPAN = 30.0  # scores that span more than this ratio are drawn on a logarithmic axis


@dataclass(frozen=True)
class Bar:
    """One bar, shares of the axes."""

    left: float
    width: float
    height: float


@dataclass(frozen=True)
class Histogram:
    """Scores of several groups of images in common bins."""

    series: Mapping[str, list[Bar]]  # bars of a group; empty bins have none
    ticks: list[tuple[float, float]]  # place on the axis, score there
    tallest: int  # images in the highest bar
    threshold: float | None  # place on the axis
    logarithmic: bool


@dataclass(frozen=True)
class RocCurve:
    """Points (false alarms, defects found), from (0, 0) to (1, 1), and the area below them."""

    points: list[tuple[float, float]]
    auroc: float


def score_histogram(
    groups: Mapping[str, ArrayLike],  # "good", "defective" or "not labelled" -> scores [n]
    threshold: float | None = None,
) -> Histogram | None:
    """Histogram of the scores of each group; None without scores or with one that is not finite."""
    scores = {name: np.asarray(values, float) for name, values in groups.items()}
    values = np.concatenate([*scores.values(), [] if threshold is None else [threshold]])
    if not sum(group.size for group in scores.values()) or not np.isfinite(values).all():
        return None
    logarithmic = bool(values.min() > 0 and values.max() > _LOG_SPAN * values.min())
    edges = (np.geomspace if logarithmic else np.linspace)(*_limits(values, logarithmic), _BINS + 1)
    counts = {name: np.histogram(group, edges)[0] for name, group in scores.items()}
    tallest = max(int(heights.max()) for heights in counts.values())
    width = 1 / _BINS / len(counts)
    series = {
        name: [
            Bar(i / _BINS + rank * width, width, count / tallest)
            for i, count in enumerate(heights.tolist())
            if count
        ]
        for rank, (name, heights) in enumerate(counts.items())
    }
    places = np.linspace(0.0, 1.0, _BINS + 1)
    return Histogram(
        series=series,
        ticks=[(float(places[i]), float(edges[i])) for i in range(0, _BINS + 1, _BINS // 4)],
        tallest=tallest,
        threshold=None if threshold is None else float(np.interp(threshold, edges, places)),
        logarithmic=logarithmic,
    )


def roc_chart(
    positives: ArrayLike,  # [P] scores of defective images
    normals: ArrayLike,  # [n] scores of good images
) -> RocCurve:
    """ROC curve over images with its area."""
    false_rates, true_rates = roc_curve(np.asarray(positives), np.asarray(normals))
    points = list(zip(false_rates.tolist(), true_rates.tolist(), strict=True))
    return RocCurve(points, float(np.trapezoid(true_rates, false_rates)))


def _limits(values: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    """Ends of the axis: a little beyond the values, never equal."""
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        return low / 1.1, high * 1.1
    margin = 0.04 * (high - low) or max(abs(high), 1e-6) * 0.5
    return low - margin, high + margin
