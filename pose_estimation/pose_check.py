"""Did the pose estimation succeed? A verdict learnt from held-out train views."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from scene import InputError

_SPREADS = 4.0  # robust standard deviations (of the logarithm) that a good pose may lie off
_LEAST_SPREAD = 0.15  # of the logarithm: a handful of views cannot prove less
_SLACK = 2.0  # least spreads by which a right pose may exceed all held-out views, at least
_FAR = 1.5  # times the limit; queries of the object stay below it by far
_HOPELESS = 2.0  # times the limit, after the first steps of the search
_TINY = 1e-4  # keeps logarithms finite


@dataclass(frozen=True)
class PoseCheck:
    """The largest of each fit statistic (see fit_statistics.py) that a right pose shows."""

    limits: dict[str, float]
    n_good: int  # poses known to be right, and wrong, that the limits come from
    n_bad: int
    # where wrong poses begin, nowhere above the limits; empty: not known
    wrong_from: dict[str, float] = field(default_factory=dict)

    def accepts(self, statistics: Mapping[str, float]) -> bool:
        """True when at most one figure is beyond its limit, and not all are like a wrong pose's.

        A large defect can move one far, but leaves another as it is; it does not change more than
        half of the object, so the median stays near its limit.
        """
        if not statistics["median"] <= _FAR * self.limits["median"]:
            return False
        over = sum(not statistics[name] <= limit for name, limit in self.limits.items())
        usual = any(statistics[name] <= self.wrong_from.get(name, math.inf) for name in self.limits)
        return over <= 1 and usual

    def fits_in_colour(self, statistics: Mapping[str, float]) -> bool:
        """True when neither figure of the colours is beyond its limit.

        The mismatch of outlines is no measure without a calibration: it grows as images shrink.
        """
        return all(statistics[name] <= self.limits[name] for name in ("median", "upper"))

    def rules_out(self, statistics: Mapping[str, float]) -> bool:
        """True when a pose is so far off that no finish could make it acceptable."""
        is_other = not statistics["median"] <= _HOPELESS * self.limits["median"]
        return is_other or self._far(statistics, _FAR) > 1

    def is_hopeless(self, statistics: Mapping[str, float]) -> bool:
        """True when a candidate is so far off after a few steps that nothing near it can be right.

        After them, right candidates of objects of all kinds lie below their limits, and those
        before images of something else at two to four times the limit (docs/pose.md).
        """
        return self._far(statistics, _HOPELESS) > 1

    def excess(self, statistics: Mapping[str, float]) -> float:
        """How bad a fit is, to rank poses before images that differ: in units of the limits."""
        return sum(statistics[name] / max(limit, _TINY) for name, limit in self.limits.items())

    def _far(self, statistics: Mapping[str, float], factor: float) -> int:
        """How many figures are more than so many times their limit."""
        return sum(not statistics[name] <= factor * limit for name, limit in self.limits.items())

    def at_low_resolution(self) -> "PoseCheck":
        """For figures of small images, which even a perfect pose does not bring near zero."""
        limits = {name: max(limit, DOUBTFUL.limits[name]) for name, limit in self.limits.items()}
        return PoseCheck(limits, self.n_good, self.n_bad)

    def in_surroundings(self) -> "PoseCheck":
        """For an object that was cut out by its colours: an outline is not exact to the pixel.

        Limits of a model that shows its views to the last digit would refuse that; at half of what
        is doubtful they still lie far below what other things show (docs/pose.md).
        """
        limits = {
            name: max(limit, DOUBTFUL.limits[name] / 2) for name, limit in self.limits.items()
        }
        begin = {name: max(value, limits[name]) for name, value in self.wrong_from.items()}
        return PoseCheck(limits, self.n_good, self.n_bad, begin)

    def as_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "PoseCheck":
        """The opposite of `as_json`. Raises InputError when entries are missing or not numbers."""
        try:
            limits = {name: float(values["limits"][name]) for name in DOUBTFUL.limits}
            # absent from calibrations by older code, where the limits alone count
            stored = values.get("wrong_from", {})
            wrong_from = {name: float(stored[name]) for name in DOUBTFUL.limits if stored}
            if not all(0 <= v < math.inf for v in (*limits.values(), *wrong_from.values())):
                raise ValueError("a limit is negative or not finite")
            return PoseCheck(limits, int(values["n_good"]), int(values["n_bad"]), wrong_from)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "the calibration of the pose check is damaged: run calibrate.py"
            ) from error


# Stands in where nothing is calibrated: only to decide whether a second try is worth its time.
DOUBTFUL = PoseCheck({"median": 0.06, "upper": 0.2, "mismatch": 0.12}, 0, 0)


def fit_pose_check(
    good: Sequence[Mapping[str, float]],  # fit statistics at poses known to be right
    bad: Sequence[Mapping[str, float]] = (),  # fit statistics at poses known to be wrong
) -> PoseCheck | None:
    """Limits for every figure, or None without any good pose.

    A limit leaves room for what good views show: their largest figure and four robust standard
    deviations of its logarithm. Where wrong poses begin only beyond that, it lies half-way (on the
    logarithmic scale), which leaves room for defects too. Where they begin before it, because good
    views differ much or wrong poses fit well, `wrong_from` tells where.
    """
    if not good:
        return None
    limits, wrong_from = {}, {}
    for name in good[0]:
        values = torch.tensor([math.log(figures[name] + _TINY) for figures in good])
        centre = values.median()
        spread = max(1.4826 * float((values - centre).abs().median()), _LEAST_SPREAD)
        largest = float(values.max())
        limit = max(largest, float(centre) + _SPREADS * spread)
        if bad:
            wrong = torch.tensor([math.log(figures[name] + _TINY) for figures in bad])
            begin = float(torch.quantile(wrong, 0.05))
            limit = max(limit, 0.5 * (limit + begin))
            begin = max(begin, largest + _SLACK * _LEAST_SPREAD)
            wrong_from[name] = math.exp(min(limit, begin))
        limits[name] = math.exp(limit)
    return PoseCheck(limits, len(good), len(bad), wrong_from)
