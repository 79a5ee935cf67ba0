"""Photographs of good parts at unknown poses: which of them can say what good images score."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from anomaly import MINIMAL_COUNT

from .calibration import CalibrationViews
from .inspector import Inspection, Inspector

_SPREADS, _LEAST_SPREAD = 4.0, 0.15  # of the logarithms of scores; what lies beyond looks defective
_SMALLEST = 1e-12  # score of a map of zeros, so that it has a logarithm


@dataclass(frozen=True)
class Photographs:
    """Inspected photographs, those that count and those that do not."""

    used: list[Inspection]
    left_out: list[tuple[Path, str]]  # and why, one sentence each

    @property
    def scores(self) -> list[float]:
        """Of those that count."""
        return [float(found.score) for found in self.used if found.score is not None]

    def join(self, views: CalibrationViews, inspector: Inspector) -> CalibrationViews:
        """The held-out views with the photographs at the poses that were found."""
        images, cameras = list(views.images), list(views.cameras)
        for found in self.used:
            assert found.image is not None
            assert found.pose is not None
            images.append(found.image.mul(255).round().to(torch.uint8))
            cameras.append(inspector.camera.at(found.pose.world_to_camera))
        return CalibrationViews(images, cameras, len(self.used))


def inspect_photographs(inspector: Inspector, paths: Sequence[Path]) -> Photographs:
    """Finds the poses of photographs and scores them.

    Left out is what cannot be read, whose pose is not found, or what looks defective: its score
    lies above the threshold of the held-out views and four robust deviations above the median of
    the photographs (of the logarithms), which may all score higher than held-out views do.
    """
    found = [
        inspector.inspect([path])[0]
        for path in tqdm(paths, desc="photographs", unit="image", file=sys.stderr)
    ]
    located = [each for each in found if _why_not_located(each) is None]
    limit = _highest_good([each.score or 0.0 for each in located], inspector)
    photographs = Photographs([], [])
    for each in found:
        reason = _why_not_located(each)
        if reason is None and (each.score or 0.0) > limit:
            reason = f"it looks defective (score {each.score:.3g}, limit {limit:.3g})"
        if reason is None:
            photographs.used.append(each)
        else:
            photographs.left_out.append((each.path, reason))
    return photographs


def _why_not_located(found: Inspection) -> str | None:
    """Why the score of a photograph says nothing; None when it says something."""
    if found.error is not None:
        return found.error
    if found.pose is None or found.pose.pose_ok is False:
        return "its pose was not found"
    return None


def _highest_good(scores: Sequence[float], inspector: Inspector) -> float:
    """The score up to which a photograph counts as good."""
    least = 0.0 if inspector.threshold is None else inspector.threshold.value
    if len(scores) < MINIMAL_COUNT:
        return least or math.inf
    logs = np.log(np.maximum(scores, _SMALLEST))
    middle = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), _LEAST_SPREAD)
    return max(least, math.exp(middle + _SPREADS * spread))
