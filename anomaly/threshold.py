"""THE THRESHOLD: what good images score, and from where on an image is called anomalous.

Two answers, and a sentence for each. The order statistic is a promise: of n + 1 exchangeable
scores the new one ranks k-th from the top with probability 1 / (n + 1), whatever their
distribution (split conformal prediction), but n scores cannot promise less than 1 / (n + 1).
Below that the tail of the log-scores is fitted: an estimate, and called so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MINIMAL_COUNT = 5  # fewer held-out scores say nothing
TAIL_SHARE = 0.5  # share of the scores that the tail is fitted to
PRIOR_COUNT = 20  # the fitted shape is drawn towards an exponential tail as by so many scores
_SMALLEST = 1e-12  # scores below it count as this, so that they have a logarithm


_LARGEST_LOGARITHM = 100.0  # of a score, and of the shape of its tail, that a file may state


@dataclass(frozen=True)
class Threshold:
    """From which score on an image is called anomalous (score > value)."""

    value: float
    false_alarm_rate: float  # aimed at
    promised: bool  # True: holds for any distribution; False: read off a tail or other models
    message: str  # one sentence for a report

    @property
    def map_scale(self) -> float:
        """Map value for the hottest colour, so that the threshold lies in the middle."""
        return 2.0 * self.value


@dataclass(frozen=True)
class ScoreDistribution:
    """Scores of good images and the generalised Pareto tail of their logarithms."""

    scores: tuple[float, ...]  # ascending
    start: float  # where the tail begins, of log(score)
    scale: float  # of the excess over `start`
    shape: float  # > 0 heavier than exponential, < 0 with an end
    share: float  # of the scores that lie beyond `start`
    models: int = 1  # that gave the scores, each those of the views it was not fitted to
    photographs: int = 0  # of the scores: of good parts at unknown poses, beside held-out views

    def threshold(self, false_alarm_rate: float = 0.01) -> Threshold:
        """The threshold that good images pass at most at this rate.

        Raises ValueError unless the rate lies in (0, 1).
        """
        if not 0.0 < false_alarm_rate < 1.0:
            raise ValueError(f"a false-alarm rate lies between 0 and 1, got {false_alarm_rate}")
        count = len(self.scores)
        rank = math.ceil((count + 1) * (1.0 - false_alarm_rate) - 1e-9)
        aim, least = f"{100 * false_alarm_rate:.3g} %", f"{100 / (count + 1):.2g} %"
        if rank <= count:
            counted = f"order statistic {rank} of {self.origin}"
            alone = self.models == 1 and self.photographs == 0
            message = (
                f"At most {aim} of good images are expected above it: {counted}, whatever their "
                "distribution."
                if alone
                else f"About {aim} of good images are expected above it: {counted}; exact as far "
                "as those score alike."
            )
            return Threshold(self.scores[rank - 1], false_alarm_rate, alone, message)
        message = (
            f"{self.origin} cannot promise {aim} false alarms (the least they can is {least}): "
            "the threshold is an estimate from the fitted tail."
        )
        estimate = max(self._quantile(false_alarm_rate), self.scores[-1])
        return Threshold(estimate, false_alarm_rate, False, message)

    @property
    def origin(self) -> str:
        """How many scores of what: "21 held-out views", "... and 30 photographs"."""
        held_out = f"{len(self.scores) - self.photographs} held-out views"
        if self.models > 1:
            held_out += f" (of {self.models} models, none fitted to its views)"
        if not self.photographs:
            return held_out
        photographs = f"{self.photographs} photographs of good parts"
        only = self.photographs == len(self.scores)
        return photographs if only else f"{held_out} and {photographs}"

    def tail_probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """How likely a good image scores at least so high; never rises with the score.

        Counted among the held-out scores in the bulk, read off the fitted tail beyond it; 0
        where the fitted tail has ended.
        """
        values = np.asarray(scores, float)
        count = len(self.scores)
        as_high = count - np.searchsorted(self.scores, values, side="left")
        excess = np.log(np.maximum(values, _SMALLEST)) - self.start
        survival = _survival(np.maximum(excess, 0.0) / self.scale, self.shape)
        return np.where(excess > 0, self.share * survival, (1 + as_high) / (count + 1))

    def _quantile(self, probability: float) -> float:
        """Score that the fitted tail exceeds with this probability."""
        ratio = self.share / probability
        if abs(self.shape) < 1e-9:
            excess = math.log(ratio)
        else:
            excess = (ratio**self.shape - 1.0) / self.shape
        return math.exp(self.start + self.scale * excess)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return asdict(self) | {"scores": list(self.scores)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ScoreDistribution":
        """What `to_dict` gave. Raises ValueError when an entry is missing or no number."""
        try:
            scores = tuple(float(score) for score in values["scores"])
            names = ("start", "scale", "shape", "share")
            start, scale, shape, share = (float(values[name]) for name in names)
            numbers = (*scores, start, scale, shape, share)
            if not all(map(math.isfinite, numbers)) or not scores or scale <= 0:
                raise ValueError("a value that is not finite")
            if list(scores) != sorted(scores) or scores[0] < 0 or not 0 < share <= 1:
                raise ValueError("scores that are not in order, or a share that is none")
            if max(abs(start), scale, abs(shape)) > _LARGEST_LOGARITHM:
                raise ValueError("a tail that no scores have")
            counts = int(values.get("models", 1)), int(values.get("photographs", 0))
            return cls(scores, start, scale, shape, share, *counts)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the scores are incomplete or damaged ({error!r})") from error


def fit_score_distribution(
    held_out: Sequence[float],  # scores of views that the model was not fitted to
    photographs: Sequence[float] = (),  # of good parts at poses that were found
    models: int = 1,  # that gave the held-out scores
) -> ScoreDistribution:
    """Describes the scores of good images.

    The tail is a generalised Pareto distribution of log(score) beyond the median, fitted by
    probability-weighted moments (Hosking & Wallis 1987), which few values suffice for.
    Raises ValueError for fewer than 5 scores, or scores that are negative or not finite.
    """
    values = np.sort(np.asarray([*held_out, *photographs], float))
    if values.size < MINIMAL_COUNT:
        raise ValueError(
            f"{values.size} scores of good images are too few for a threshold: "
            f"hold out at least {MINIMAL_COUNT} views"
        )
    if not np.isfinite(values).all() or values[0] < 0:
        raise ValueError("scores of good images are finite and not negative; these are not")
    logs = np.log(np.maximum(values, _SMALLEST))
    beyond = max(2, round(TAIL_SHARE * values.size))
    start = 0.5 * (logs[-beyond - 1] + logs[-beyond])
    shape, scale = _fit_tail(logs[-beyond:] - start)
    share = beyond / values.size
    tail = float(start), scale, shape, share
    return ScoreDistribution(tuple(values.tolist()), *tail, models, len(photographs))


def _fit_tail(excesses: NDArray) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution; excesses ascend, >= 0."""
    count, mean = excesses.size, float(excesses.mean())
    if mean < 1e-6:  # all scores alike: the narrowest tail that still has a width
        return 0.0, 1e-6
    ranks = (np.arange(1, count + 1) - 0.35) / count
    moment = float(np.mean((1.0 - ranks) * excesses))
    shape = 2.0 - mean / (mean - 2.0 * moment) if mean > 2.0 * moment else 0.5
    shape = min(max(shape, -0.5), 0.5) * count / (count + PRIOR_COUNT)
    return shape, mean * (1.0 - shape)


def _survival(excess: NDArray, shape: float) -> NDArray:
    """Probability that a generalised Pareto variable of scale 1 exceeds `excess`."""
    if abs(shape) < 1e-9:
        return np.exp(-excess)
    return np.maximum(1.0 + shape * excess, 0.0) ** (-1.0 / shape)
