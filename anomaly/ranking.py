"""Exact ranking figures from sorted scores; tied scores share one threshold.

All areas come from one observation. Let a positive of score s be detected, as the threshold
falls past s, while the false-positive rate goes from a = #(normals > s) / n to
b = #(normals >= s) / n. Between two neighbouring thresholds a ROC-like curve is a straight
line, so the positive's share of the curve is 0 before a, a ramp over [a, b], and 1 after b. The
curve is the weighted sum of these ramps; its area up to any limit has a closed form, and no
curve of millions of points is ever built.
"""

import numpy as np
from numpy.typing import NDArray


def false_alarms(
    positives: NDArray,  # [P]
    normals: list[NDArray],  # sorted arrays
) -> tuple[NDArray, NDArray]:
    """Numbers of normals > s and >= s for each positive score s; both [P] int64."""
    above = np.zeros(len(positives), np.int64)
    above_or_tied = np.zeros(len(positives), np.int64)
    for group in normals:
        above += len(group) - np.searchsorted(group, positives, side="right")
        above_or_tied += len(group) - np.searchsorted(group, positives, side="left")
    return above, above_or_tied


def area_up_to(
    limit: float,  # of the false-positive rate, in (0, 1]
    above: NDArray,  # [P] from `false_alarms`
    above_or_tied: NDArray,  # [P]
    n_normals: int,
    weights: NDArray,  # [P], sum 1: each positive's share of the curve's height
) -> float:
    """Area under the weighted curve up to the limit, divided by the limit: 1 is perfect."""
    start, end = above / n_normals, above_or_tied / n_normals
    width = end - start
    ramp_end = np.minimum(end, limit)
    inside = np.maximum(ramp_end - start, 0.0)
    ramp = np.where(width > 0, inside**2 / (2 * np.where(width > 0, width, 1.0)), 0.0)
    plateau = np.maximum(limit - end, 0.0)
    return min(1.0, float(np.sum(weights * (ramp + plateau)) / limit))


def precision_figures(
    positives: NDArray,  # [P] sorted ascending
    above_or_tied: NDArray,  # [P] normals >= each positive
) -> tuple[float, float, float]:
    """Average precision, the highest F1, and the threshold (>=) that reaches it.

    Average precision is the sum over distinct thresholds of (recall gained) x precision.
    """
    n_positives = len(positives)
    true = n_positives - np.searchsorted(positives, positives, side="left")  # [P] hits at s
    precision = true / (true + above_or_tied)
    f1 = 2 * true / (true + above_or_tied + n_positives)
    best = int(np.argmax(f1))
    return float(precision.mean()), float(f1[best]), float(positives[best])


def roc_curve(
    positives: NDArray,  # [P]
    normals: NDArray,  # [n]
) -> tuple[NDArray, NDArray]:
    """False- and true-positive rates at every distinct threshold, from (0, 0) to (1, 1)."""
    positives, normals = np.sort(positives), np.sort(normals)
    thresholds = np.unique(np.concatenate([positives, normals]))[::-1]
    hits = len(positives) - np.searchsorted(positives, thresholds, side="left")
    alarms = len(normals) - np.searchsorted(normals, thresholds, side="left")
    rates = np.concatenate([[0.0], alarms / len(normals)])
    return rates, np.concatenate([[0.0], hits / len(positives)])
