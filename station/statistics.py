"""What scores say: the histogram behind the threshold slider, intervals, and drift."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from anomaly import ScoreDistribution
from pipeline.calibration import Calibration
from pipeline.model_folder import ModelFolder
from pipeline.presets import DETECTION
from scene import read_json

from .changes import current_threshold
from .database import Database
from .history import LAST_REVIEWS
from .settings import StationSettings
from .tables import inspections, reviews, verdicts

_HISTORY = 5000  # newest inspections that the slider shows
_WEIGHT = 0.2  # of the newest value in the moving average
_LIMIT = 3.0  # standard deviations of the average at which it is an alarm
_BASELINE = 20  # inspections after a calibration that say what is usual
_CONFIDENCE = 0.95


def interval(hits: int, count: int, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a rate of which `hits` in `count` were seen (Clopper & Pearson 1934)."""
    from scipy.special import betaincinv

    if count == 0:
        return 0.0, 1.0
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if hits == 0 else float(betaincinv(hits, count - hits + 1, tail))
    high = 1.0 if hits == count else float(betaincinv(hits + 1, count - hits, 1.0 - tail))
    return low, high


def intervals(count: int) -> dict[str, list[float]]:
    """`interval` for 0 to `count` hits, for a page that looks them up."""
    pairs = [interval(hits, count) for hits in range(count + 1)]
    return {
        "low": [round(low, 5) for low, _ in pairs], "high": [round(high, 5) for _, high in pairs]
    }  # fmt: skip


def calibrated_scores(folder: ModelFolder) -> ScoreDistribution | None:
    """Scores of good images by what the model's preset compares; None without a threshold."""
    preset = DETECTION[folder.load_config()["settings"]["preset"]]
    scores = Calibration.from_json(read_json(folder.calibration_path)).scores
    return scores.get(preset.features) or next(iter(scores.values()), None)


def score_evidence(settings: StationSettings, database: Database, model: str) -> dict[str, Any]:
    """All that the slider needs: scores of the calibration and of the history, with answers.

    Only inspections of one photograph count: parts in several have scores of another scale.
    """
    known = calibrated_scores(ModelFolder(settings.models[model]))
    query = (
        select(verdicts.c.score, verdicts.c.verdict, reviews.c.answer)
        .join(inspections, inspections.c.id == verdicts.c.inspection_id)
        .outerjoin(LAST_REVIEWS, LAST_REVIEWS.c.inspection_id == inspections.c.id)
        .outerjoin(reviews, reviews.c.id == LAST_REVIEWS.c.id)
        .where(inspections.c.model == model, inspections.c.n_photographs == 1,
               verdicts.c.score.is_not(None), verdicts.c.verdict.in_(("good", "defective")))
        .order_by(inspections.c.id.desc()).limit(_HISTORY)
    )  # fmt: skip
    with database.read() as connection:
        rows = connection.execute(query).all()
        version = current_threshold(connection, model)
    good = sum(row.answer == "good" for row in rows)
    found: dict[str, Any] = {
        "history": [[row.score, row.answer or "none", row.verdict] for row in rows],
        "intervals": intervals(good), "calibration": None, "calibration_intervals": intervals(0),
        "calibrated": None, "message": "", "chosen": None,
    }  # fmt: skip
    if version is not None:
        found |= {"version": version.version, "chosen": version.value}
    if known is not None:
        threshold = known.threshold(settings.false_alarm_rate)
        found |= {
            "calibration": list(known.scores), "calibrated": threshold.value,
            "calibration_intervals": intervals(len(known.scores)), "message": threshold.message,
        }  # fmt: skip
    return found


def rate_of(settings: StationSettings, model: str, value: float) -> float:
    """Share of good images that score above a chosen threshold, as the calibration estimates."""
    known = calibrated_scores(ModelFolder(settings.models[model]))
    if known is None:
        return settings.false_alarm_rate
    return min(max(float(known.tail_probability(value)), 1e-6), 0.999)


@dataclass(frozen=True)
class Drift:
    """A quantity over time with the limits of its moving average (Roberts 1959)."""

    name: str
    values: list[float]
    average: list[float]
    centre: float | None  # None: too few values to say what is usual
    low: float | None
    high: float | None
    alarm: str  # "" or one sentence

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(self.__dict__)


def drift_of(name: str, values: list[float], logarithmic: bool) -> Drift:
    """The chart of one quantity; the first `_BASELINE` values say what is usual."""
    if len(values) < _BASELINE:
        return Drift(name, values, [], None, None, None, "")
    known = np.log(np.maximum(values, 1e-12)) if logarithmic else np.asarray(values, float)
    base = known[:_BASELINE]
    centre = float(np.median(base))
    # The median deviation, so that a defective part among the first does not widen the limits.
    spread = max(1.4826 * float(np.median(np.abs(base - centre))), 1e-6 + 1e-3 * abs(centre))
    margin = _LIMIT * spread * math.sqrt(_WEIGHT / (2.0 - _WEIGHT))
    average, last = [], centre
    for each in known:
        # One part cannot raise an alarm alone: a drift is what stays.
        bounded = min(max(float(each), centre - 4 * spread), centre + 4 * spread)
        last += _WEIGHT * (bounded - last)
        average.append(last)
    back = math.exp if logarithmic else float
    alarm = ""
    if abs(last - centre) > margin:
        way = "above" if last > centre else "below"
        alarm = f"{name} has drifted {way} what was usual after the calibration"
    return Drift(name, values, [back(each) for each in average], back(centre),
                 back(centre - margin), back(centre + margin), alarm)  # fmt: skip


def drifts(connection: Connection, model: str) -> list[Drift]:
    """Score, pose residual and exposure of parts that are good or not known to be defective.

    Counted from the last calibration on, since scores before had another meaning.
    """
    version = current_threshold(connection, model)
    since = 0.0 if version is None else version.at
    query = (
        select(verdicts.c.score, verdicts.c.pose_loss, verdicts.c.exposure)
        .join(inspections, inspections.c.id == verdicts.c.inspection_id)
        .where(inspections.c.model == model, inspections.c.n_photographs == 1,
               verdicts.c.verdict == "good", verdicts.c.finished_at >= since)
        .order_by(inspections.c.id.desc()).limit(_HISTORY)
    )  # fmt: skip
    rows = connection.execute(query).all()[::-1]
    chosen = {"score": True, "pose residual": True, "exposure": False}
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return [
        drift_of(name, [float(value) for value in column if value is not None], logarithmic)
        for (name, logarithmic), column in zip(chosen.items(), columns, strict=True)
    ]
