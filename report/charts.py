"""Two small charts as inline SVG: the histogram of scores and the ROC curve."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from anomaly.ranking import roc_curve

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TOP = 460, 260, 44, 26, 34, 30
_BINS = 24
_BARS = {"good": "good-bar", "defective": "defective-bar", "not labelled": "unlabelled-bar"}
_LOG_SPAN = 30.0  # scores that span more than this ratio are drawn on a logarithmic axis


def score_histogram(
    groups: Mapping[str, ArrayLike],  # "good", "defective" or "not labelled" -> scores [n]
    threshold: float | None = None,
) -> str:
    """Histogram of the scores of each group, the threshold as a dashed line; SVG text."""
    series = {name: np.asarray(scores, float) for name, scores in groups.items()}
    values = np.concatenate([*series.values(), [] if threshold is None else [threshold]])
    if not sum(scores.size for scores in series.values()) or not np.isfinite(values).all():
        return ""
    logarithmic = bool(values.min() > 0 and values.max() > _LOG_SPAN * values.min())
    low, high = _limits(values, logarithmic)
    edges = (np.geomspace if logarithmic else np.linspace)(low, high, _BINS + 1)
    counts = {name: np.histogram(scores, edges)[0] for name, scores in series.items()}
    tallest = max(int(heights.max()) for heights in counts.values())
    parts = [_frame("score (logarithmic)" if logarithmic else "score", "images")]
    for i in range(5):
        parts.append(_tick(_x(i / 4), _HEIGHT - _BOTTOM + 16, f"{edges[i * _BINS // 4]:.3g}"))
    parts += [_text(_LEFT - 6, _y(f) + 4, f"{tallest * f:.3g}", "end") for f in (0.0, 1.0)]
    for rank, (name, heights) in enumerate(counts.items()):
        parts += _bars(heights / tallest, _BARS[name], rank, len(counts))
    if threshold is not None:
        place = np.interp(threshold, edges, np.linspace(0.0, 1.0, _BINS + 1))
        parts.append(f'<path class="threshold" d="M{_x(float(place)):.1f} {_y(0)}V{_TOP}"/>')
    return _svg("Histogram of scores", parts + _legend(list(series), threshold is not None))


def _bars(shares: np.ndarray, name: str, rank: int, series: int) -> list[str]:
    """Bars of one of several series that stand beside each other in every bin."""
    width = (_WIDTH - _LEFT - _RIGHT) / _BINS / series
    return [
        f'<rect class="{name}" x="{_x(i / _BINS) + rank * width:.1f}" y="{_y(share):.1f}" '
        f'width="{width:.1f}" height="{_y(0) - _y(share):.1f}"/>'
        for i, share in enumerate(shares.tolist())
        if share > 0
    ]


def roc_chart(
    positives: ArrayLike,  # [P] scores of defective images
    normals: ArrayLike,  # [n] scores of good images
) -> str:
    """ROC curve over images with its area; SVG text."""
    false_rates, true_rates = roc_curve(np.asarray(positives), np.asarray(normals))
    points = " ".join(
        f"{_x(float(x)):.1f},{_y(float(y)):.1f}"
        for x, y in zip(false_rates, true_rates, strict=True)
    )
    area = np.trapezoid(true_rates, false_rates)
    parts = [_frame("false alarms", "defects found")]
    for share in (0.0, 0.5, 1.0):
        parts.append(_tick(_x(share), _HEIGHT - _BOTTOM + 16, f"{share:.0%}"))
        parts.append(_text(_LEFT - 6, _y(share) + 4, f"{share:.0%}", "end"))
    parts.append(f'<path class="chance" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>')
    parts.append(f'<polyline class="curve" points="{points}"/>')
    parts.append(
        _text(_WIDTH - _RIGHT - 4, _HEIGHT - _BOTTOM - 10, f"AUROC {area:.3f}", "end", "strong")
    )
    return _svg("ROC curve over images", parts)


def _limits(values: np.ndarray, logarithmic: bool) -> tuple[float, float]:
    """Ends of the axis: a little beyond the values, never equal."""
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        return low / 1.1, high * 1.1
    margin = 0.04 * (high - low) or max(abs(high), 1e-6) * 0.5
    return low - margin, high + margin


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def _text(x: float, y: float, words: str, anchor: str = "start", name: str = "tick") -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _tick(x: float, y: float, words: str) -> str:
    return _text(x, y, words, "middle")


def _frame(below: str, beside: str) -> str:
    axes = f'<path class="axis" d="M{_LEFT} {_TOP}V{_y(0)}H{_WIDTH - _RIGHT}"/>'
    return (
        axes
        + _text((_LEFT + _WIDTH) / 2, _HEIGHT - 3, below, "middle")
        + _text(2, _TOP - 12, beside)
    )


def _legend(names: list[str], with_threshold: bool) -> list[str]:
    """Names of the series in one line, right-aligned above the bars."""
    labels = [*names, *(["threshold"] if with_threshold else [])]
    widths = [26 + 6.2 * len(label) for label in labels]
    x, parts = _WIDTH - _RIGHT - sum(widths), []
    for rank, (label, width) in enumerate(zip(labels, widths, strict=True)):
        if rank < len(names):
            parts.append(f'<rect class="{_BARS[label]}" x="{x:.0f}" y="8" width="10" height="10"/>')
        else:
            parts.append(f'<path class="threshold" d="M{x + 5:.0f} 6v14"/>')
        parts.append(_text(x + 14, 17, label))
        x += width
    return parts


def _svg(title: str, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )
