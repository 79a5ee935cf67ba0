"""What good objects score in several images together: groups of held-out views."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from anomaly import (
    MINIMAL_COUNT,
    NormalModelScorer,
    PlaceTail,
    ScoreDistribution,
    Scorer,
    Threshold,
    agreement,
    fit_score_distribution,
    flash_limit,
    flash_probability,
    project,
    repeats,
    surface_areas,
)
from anomaly.normal_model import predict
from anomaly.view_distance import view_angles
from pose_estimation import load_gallery
from scene import Camera, InputError, damage_named

from .calibration import CalibrationViews
from .inspector import Inspector
from .model_folder import ModelFolder

Score = Callable[[Tensor, Tensor], float]  # evidence [k, N] and rotations [k, 3, 3] of a group

_DRAWN = 200  # groups of held-out views that set a threshold, where there are more
_SMALLEST = 1e-6  # highest map value of a view that can be raised
_AREA_VIEWS = 64  # train views that say how large the area of each Gaussian is


@dataclass(frozen=True)
class ObjectCalibration:
    """Evidence of good views; a group of them is scored as an object is."""

    areas: Tensor  # [N] that each Gaussian colours
    held_out: Tensor  # [V, N] evidence
    rotations: Tensor  # [V, 3, 3] world to camera
    tail: PlaceTail

    def places(self, evidence: Tensor, rotations: Tensor) -> Tensor:
        """-log p of each place in several images [k, N] together, [N]; NaN where not seen.

        `rotations` [k, 3, 3] are the images' world to camera.
        """
        return agreement(self.tail.surprise(evidence), repeats(rotations))

    def score(self, evidence: Tensor, rotations: Tensor) -> float:
        """That of the place that differs most; 0 where no place is seen."""
        return float(self.places(evidence, rotations).nan_to_num(nan=0.0).max())

    def scores(self, count: int, score: Score | None = None) -> ScoreDistribution | None:
        """Scores of good objects in `count` images, by another `score` or by our own.

        Of all groups of so many held-out views, or of 200 random ones of more. None where two
        groups cannot be made without a common view, or fewer than five in all.
        """
        views = len(self.held_out)
        if math.comb(views, count) < MINIMAL_COUNT or 2 * count > views:
            return None
        score = score or self.score
        groups = _groups(views, count)
        found = [score(self.held_out[group], self.rotations[group]) for group in groups]
        # Groups share views: they say no more of the tail than so many scores as there are views.
        levels = (np.arange(views) + 0.5) / views
        return fit_score_distribution(np.quantile(found, levels).tolist())

    def threshold(self, scores: ScoreDistribution, count: int, rate: float) -> Threshold:
        """That of `scores`, with what it can promise; never one that a flash passes more often.

        Few views in many groups are much the same groups: their scores end too early.
        """
        views, counted = len(self.held_out), scores.threshold(rate).value
        message = (
            f"Objects in {count} images: an estimate from groups of {count} "
            f"of {views} good views. No more than {views // count} of these groups share no view, "
            "so no rate is promised."
        )
        least = flash_limit(count, rate)
        if least > counted:
            message += " Raised to where a flash in one good image passes it no more often."
        return Threshold(max(least, counted), rate, False, message)

    def tail_probability(self, scores: ScoreDistribution, count: int, score: float) -> float:
        """How likely a good object in `count` images scores at least so high; an upper bound."""
        return max(float(scores.tail_probability(score)), flash_probability(count, score))


def calibrate_objects(inspector: Inspector, folder: ModelFolder) -> ObjectCalibration:
    """From the held-out views that the model folder keeps, each without its own say.

    Raises InputError when it keeps too few, or they are damaged.
    """
    path, renew = folder.calibration_views_path, f"run python calibrate.py --model {folder.root}"
    views = CalibrationViews([], [])
    if path.is_file():
        with damage_named(path, renew):
            views = CalibrationViews.load(path)
    if len(views) < MINIMAL_COUNT or inspector.scores is None:
        raise InputError(
            f"--group-by: '{folder.root}' keeps {len(views)} held-out views with scores, objects "
            f"need at least {MINIMAL_COUNT}: train with --holdout-every and a smaller number"
        )
    gallery, model = load_gallery(folder.gallery_path), inspector.model
    chosen = range(0, len(gallery), max(1, len(gallery) // _AREA_VIEWS))
    areas = surface_areas(model, [gallery.camera(view) for view in chosen])
    known = len(views) - views.photographs
    evidence = []
    for number, (pixels, camera) in enumerate(zip(views.images, views.cameras, strict=True)):
        image = pixels.to(areas).div(255)
        found = held_out_map(inspector.scorer, image, camera, number < known)
        evidence.append(project(model, camera, found, areas))
    rotations = torch.stack([camera.world_to_camera[:3, :3] for camera in views.cameras])
    evidence = level(evidence, inspector.scores)
    tail = PlaceTail.fit(evidence, inspector.scores)
    return ObjectCalibration(areas.cpu(), torch.stack(evidence), rotations, tail)


@torch.no_grad()
def held_out_map(scorer: Scorer, image: Tensor, camera: Camera, remembered: bool) -> Tensor:
    """The map [H, W] of a good view [3, H, W]; where the memory knows it, it must not speak."""
    if not isinstance(scorer, NormalModelScorer) or not remembered:
        return scorer(image, camera).anomaly_map
    rotation = camera.world_to_camera[:3, :3]
    own = int(view_angles(scorer.known.memory.rotations, rotation).argmin())
    shown = predict(scorer.model, camera, scorer.known, exclude=own)
    return scorer.map_of(image, shown)[1]


def level(
    evidence: Sequence[Tensor],  # [N] each, of held-out views
    images: ScoreDistribution,  # of the same views, none with a say in its own score
) -> list[Tensor]:
    """The views raised to the scores of the same rank, [N] float16 each; none is lowered.

    The normal model that is kept was fitted to these very views, so their maps by it stay too low:
    on a matte object by up to a third, where queries of it scored as the calibration says.
    """
    highest = np.array([float(each.nan_to_num(nan=0.0).max()) for each in evidence])
    ranks = highest.argsort().argsort() / max(1, len(highest) - 1)
    ratios = np.quantile(images.scores, ranks) / np.maximum(highest, _SMALLEST)
    most = torch.finfo(torch.float16).max
    return [
        (each.float() * max(1.0, ratio)).clamp(max=most).half()
        for each, ratio in zip(evidence, ratios.tolist(), strict=True)
    ]


def _groups(views: int, count: int) -> list[list[int]]:
    """All groups of so many of the views, or `_DRAWN` random ones of more."""
    if math.comb(views, count) <= _DRAWN:
        return [list(group) for group in combinations(range(views), count)]
    random = np.random.default_rng([views, count])
    return [random.permutation(views)[:count].tolist() for _ in range(_DRAWN)]
