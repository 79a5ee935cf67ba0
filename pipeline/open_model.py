"""A finished model folder, opened once for all queries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anomaly import Calibration, Threshold, make_features
from anomaly.normal_model import Normality
from anomaly.scoring import CalibratedScorer, RawScorer, Scorer
from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import Gallery, PoseCheck, PoseSettings, load_gallery
from scene import InputError, World, damage_named, read_json

from .inspector import Inspector
from .model_folder import CALIBRATION, ModelFolder, camera_from_json
from .presets import DetectionPreset

_RENEW = "run the train.py command of the model again, it renews the calibration alone"
_VIEWS_FOR_SCALE = 6  # train views whose raw scores set the colours of an uncalibrated run


@dataclass(frozen=True)
class OpenModel:
    """Everything of a model folder that detection uses."""

    name: str
    inspector: Inspector
    calibration: Calibration | None  # None: no threshold can be given
    display_scale: float  # map value of the hottest colour
    features: str  # name of the features
    remarks: tuple[str, ...]  # one line each: which parts run, and why
    world: World  # the model's frame in that of the capture's files

    def threshold(self, false_alarm_rate: float) -> Threshold | None:
        """The score above which an image is called anomalous; None without a calibration."""
        return None if self.calibration is None else self.calibration.threshold(false_alarm_rate)


@dataclass(frozen=True)
class Parts:
    """Which parts are asked for."""

    preset: DetectionPreset
    pose: PoseSettings
    weights: Path | None
    false_alarm_rate: float


def open_model(folder: ModelFolder, parts: Parts, device: torch.device) -> OpenModel:
    """Reads the model. Raises InputError when it is damaged, or weights are missing."""
    config = folder.load_config()
    gaussians = folder.load_gaussians(config["settings"]["iterations"])
    gaussians = gaussians.map(lambda t: t.to(device).contiguous())
    background = torch.tensor(config["background"] or (0.0, 0.0, 0.0), device=device)
    camera = camera_from_json(config["camera"])
    gallery = load_gallery(folder.gallery_path)
    model = ObjectRenderer(gaussians, background, parts.pose.backend, parts.pose.threads)
    stored = _load_calibration(folder)
    check = stored.get("pose_check")
    wanted = parts.preset.calibrated and "features" in stored
    if wanted and stored["version"] != CALIBRATION:
        raise InputError(
            f"'{folder.calibration_path}' was made by another version of this program: {_RENEW}"
        )
    normality = _load_normality(folder, len(gaussians)).to(device) if wanted else None
    scorer, features, calibration, remarks = _scorer(model, parts, device, stored, normality)
    inspector = Inspector(
        model, camera, gallery, scorer, parts.preset.matcher, parts.pose, parts.weights,
        None if check is None else PoseCheck.from_json(check),
        None if normality is None else normality.memory,
    )  # fmt: skip
    if calibration is not None:
        scale = calibration.threshold(parts.false_alarm_rate).map_scale
    else:
        scale = _scale_of_views(scorer, gallery, device)
    remarks = [f"matcher {inspector.matcher.name}", *inspector.notes, *remarks]
    world = World.from_json(config.get("world"))
    return OpenModel(config["name"], inspector, calibration, scale, features, tuple(remarks), world)


def _scorer(
    model: ObjectRenderer,
    parts: Parts,
    device: torch.device,
    stored: dict[str, Any],  # calibration.json
    normality: Normality | None,
) -> tuple[Scorer, str, Calibration | None, list[str]]:
    """The scorer, its features' name, the calibration of its scores, and remarks."""
    try:
        features, words = make_features(parts.preset.features, parts.weights, device)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from error
    if normality is None or stored.get("features") != features.name:
        why = "" if not parts.preset.calibrated else ", no calibration for them in the model"
        scorer = RawScorer(model, features)
        return scorer, features.name, None, [f"{words}{why}: raw scores, no threshold"]
    scores = Calibration.from_dict(stored["scores"])
    calibrated = CalibratedScorer(model, normality)
    remark = f"{words}, calibrated on {len(scores.scores)} views kept out"
    return calibrated, features.name, scores, [remark]


def _load_calibration(folder: ModelFolder) -> dict[str, Any]:
    """calibration.json; empty for a model that was trained without views kept out.

    Raises InputError when it is damaged, or lacks what calibration.npz belongs to.
    """
    path = folder.calibration_path
    if not path.is_file() and not folder.memory_path.is_file():
        return {}
    if not path.is_file():
        raise InputError(f"There is no file {path}: {_RENEW}.")
    stored = read_json(path)
    with damage_named(path, _RENEW):
        stored["version"]
        if folder.memory_path.is_file():
            stored["features"], Calibration.from_dict(stored["scores"])
    return stored


def _load_normality(folder: ModelFolder, count: int) -> Normality:
    """calibration.npz. Raises InputError when it is damaged or not of `count` Gaussians."""
    with (
        damage_named(folder.memory_path, _RENEW),
        np.load(folder.memory_path, allow_pickle=False) as archive,
    ):
        normality = Normality.from_arrays(dict(archive))
        if not len(normality.place.common) == normality.memory.residuals.shape[1] == count:
            raise ValueError(f"it is not of the {count} Gaussians of this model")
        return normality


def _scale_of_views(scorer: Scorer, gallery: Gallery, device: torch.device) -> float:
    """Twice the largest score of a few train views at their known poses."""
    step = max(1, len(gallery) // _VIEWS_FOR_SCALE)
    scores = [
        float(scorer(gallery.picture(view).to(device), gallery.camera(view)).score)
        for view in range(0, len(gallery), step)
    ]
    return 2 * max(scores) or 1.0
