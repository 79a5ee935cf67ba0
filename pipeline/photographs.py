"""Photographs of good parts at unknown poses: which of them can say what good images score."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from anomaly import MINIMAL_COUNT, fit_score_distribution
from scene import InputError

from .calibration import Calibration, CalibrationViews
from .inspector import Inspection, Inspector
from .model_folder import ModelFolder

_SPREADS, _LEAST_SPREAD = 4.0, 0.15  # of the logarithms of scores; what lies beyond looks defective
_SMALLEST = 1e-12  # score of a map of zeros, so that it has a logarithm
_FAR = 10.0  # times the threshold: photographs that raise it by more are not of good parts


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
        return CalibrationViews(images, cameras, views.photographs + len(self.used))


def inspect_photographs(
    inspector: Inspector, paths: Sequence[Path], confirmed: bool = False
) -> Photographs:
    """Finds the poses of photographs and scores them.

    Left out is what cannot be read, whose pose is not found, or what looks defective: its score
    lies above the threshold of the held-out views and four robust deviations above the median of
    the photographs (of the logarithms), which may all score higher than held-out views do. Parts
    that a person `confirmed` to be good count whatever they score.
    """
    inspector = replace(inspector, zones=None)  # held-out views were scored without, too
    found = [
        inspector.inspect([path])[0]
        for path in tqdm(paths, desc="photographs", unit="image", file=sys.stderr)
    ]
    located = [each for each in found if _why_not_located(each) is None]
    limit = math.inf
    if not confirmed:
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


def add_photographs(
    folder: ModelFolder,
    calibration: Calibration,  # that lies there
    inspector: Inspector,  # of this folder
    found: Photographs,
    good: Path,  # their folder
    iteration: int,
) -> Calibration:
    """The scores of photographs of good parts added to those of the calibration, and written.

    Raises InputError, and changes nothing, when they are too few, or would raise the threshold so
    far that defects pass.
    """
    name, before = inspector.scorer.name, inspector.scores
    held_out, models, earlier = ((), 1, 0) if before is None else (
        before.scores, before.models, before.photographs
    )  # fmt: skip
    if len(held_out) + len(found.used) < MINIMAL_COUNT:
        raise InputError(
            f"--good: {len(found.used)} of {len(found.used) + len(found.left_out)} photographs in "
            f"'{good}' can be used, too few for a threshold (at least {MINIMAL_COUNT}): add "
            "photographs"
        )
    scores = fit_score_distribution(held_out, found.scores, models)
    scores = replace(scores, photographs=earlier + len(found.used))
    if before is not None and scores.threshold().value > _FAR * before.threshold().value:
        raise InputError(
            f"--good: with the photographs in '{good}' the threshold would rise from "
            f"{before.threshold().value:.4g} to {scores.threshold().value:.4g}, and defects would "
            "pass: check that they show good parts of this object, in the light of the training"
        )
    path = folder.calibration_views_path
    kept = CalibrationViews.load(path) if path.is_file() else CalibrationViews([], [])
    found.join(kept, inspector).save(path)
    calibration = replace(
        calibration, scores=calibration.scores | {name: scores}, good=str(good.resolve())
    )
    folder.save_calibration(calibration, iteration)
    return calibration


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
