"""A calibrated model folder, opened once for all queries."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from anomaly import (
    MINIMAL_COUNT,
    FeatureScorer,
    NormalModel,
    NormalModelScorer,
    ScoreDistribution,
    Scorer,
    fit_score_distribution,
    make_features,
)
from gaussian_renderer import ObjectRenderer
from pose_estimation import (
    ExpectedResidual,
    PoseSettings,
    load_gallery,
    matchers_in_surroundings,
    select_matcher,
)
from scene import Distortion, World, damage_named

from .calibration import Calibration, CalibrationViews
from .inspector import Inspector
from .model_folder import ModelFolder, camera_from_json
from .presets import DetectionPreset
from .remedies import calibrate_again
from .surroundings import SurroundingsSearch
from .zones import as_zones, load_zones, zones_note

_NO_NORMAL_MODEL = "lab"  # features that are compared where nothing is known of good images
_VIEWS_FOR_SCALE = 6  # train views whose scores set the colours of a run without a threshold


@dataclass(frozen=True)
class InspectionSettings:
    """Which parts are asked for, and where they run."""

    preset: DetectionPreset
    device: torch.device
    backend: str = "auto"
    threads: int = 1
    weights: Path | None = None  # a folder with weight files; None: the libraries' cache
    false_alarm_rate: float = 0.01
    pose: PoseSettings = field(default_factory=PoseSettings)


def open_inspector(folder: ModelFolder, settings: InspectionSettings) -> Inspector:
    """Reads the model. Raises InputError when it is damaged or not calibrated, or weights are
    missing.
    """
    config = folder.load_config()
    iteration = config["settings"]["iterations"]
    calibration = folder.load_calibration(iteration)
    gaussians = folder.load_gaussians(iteration)
    gaussians = gaussians.map(lambda t: t.to(settings.device).contiguous())
    background = torch.tensor(config["background"] or (0.0, 0.0, 0.0), device=settings.device)
    model = ObjectRenderer(gaussians, background, settings.backend, settings.threads)
    camera = camera_from_json(config["camera"])
    model(camera)  # what fails for every image fails here, once: the kernel, the memory
    gallery = load_gallery(folder.gallery_path)
    selection = select_matcher(settings.preset.matcher, gallery, model, settings.weights)
    scorer, scores, note = _scorer(folder, model, calibration, settings)
    expected_residual = _expected_residual(scorer)
    search = None
    if config["background"] is not None and calibration.pose_check is not None:
        search = SurroundingsSearch(
            model, camera, matchers_in_surroundings(gallery, model),
            replace(settings.pose, method="lm"), calibration.pose_check.in_surroundings(),
            expected_residual,
        )  # fmt: skip
    zones = load_zones(folder, iteration)
    notes = [f"matcher {selection.matcher.name}", selection.reason, note, zones_note(zones)]
    return Inspector(
        name=config["name"],
        model=model,
        camera=camera,
        world=World.from_json(config.get("world")),
        matcher=selection.matcher,
        last_matcher=selection.last,
        settings=settings.pose,
        scorer=scorer,
        pose_check=calibration.pose_check,
        expected_residual=expected_residual,
        scores=scores,
        false_alarm_rate=settings.false_alarm_rate,
        notes=tuple(note for note in notes if note),
        is_plain=config["background"] is not None,
        white=config.get("white"),
        lens=Distortion.from_json(config.get("lens")),
        turns=not config.get("exif_ignored", False),
        search=search,
        zones=as_zones(zones, gaussians.means),
    )


def _expected_residual(scorer: Scorer) -> ExpectedResidual | None:
    """What the residual memory expects of each Gaussian, where there is a memory."""
    if not isinstance(scorer, NormalModelScorer):
        return None
    memory = scorer.known.memory
    return lambda rotations: memory.expect(rotations).mean


def _scorer(
    folder: ModelFolder,
    model: ObjectRenderer,
    calibration: Calibration,
    settings: InspectionSettings,
) -> tuple[Scorer, ScoreDistribution | None, str]:
    """The scorer, the scores of good images by it, and a note."""
    name = settings.preset.features
    if name == "residual" and "residual" in calibration.scores:
        known = load_normal_model(folder, len(model.gaussians)).to(settings.device)
        scores = calibration.scores["residual"]
        return NormalModelScorer(model, known), scores, f"residuals, calibrated on {scores.origin}"
    name = _NO_NORMAL_MODEL if name == "residual" else name
    features, note = make_features(name, settings.weights, settings.device)
    scorer = FeatureScorer(model, features)
    found = calibration.scores.get(features.name) or calibrate_scorer(folder, scorer)
    if found is None:
        reason = calibration.unfit or "no held-out views were found"
        return scorer, None, f"{note}: raw scores, no threshold ({reason})"
    return scorer, found, f"{note}, calibrated on {found.origin}"


def calibrate_scorer(folder: ModelFolder, scorer: Scorer) -> ScoreDistribution | None:
    """Scores of the good images that the model folder keeps; None where it keeps too few.

    Raises InputError when they are damaged.
    """
    path = folder.calibration_views_path
    if not path.is_file():
        return None
    with damage_named(path, calibrate_again(folder.root)):
        views = CalibrationViews.load(path)
    if len(views) < MINIMAL_COUNT:
        return None
    scores = views.scores(scorer)
    count = len(scores) - views.photographs
    return fit_score_distribution(scores[:count], scores[count:])


def load_normal_model(folder: ModelFolder, count: int) -> NormalModel:
    """normal_model.npz. Raises InputError when it is damaged or not of `count` Gaussians."""
    path = folder.normal_model_path
    with (
        damage_named(path, calibrate_again(folder.root)),
        np.load(path, allow_pickle=False) as archive,
    ):
        known = NormalModel.from_arrays(dict(archive))
        if len(known.moments.common) != count:
            raise ValueError(f"it is not of the {count} Gaussians of this model")
        return known


def display_scale(inspector: Inspector, folder: ModelFolder) -> float:
    """Map value of the hottest colour: twice the threshold, or twice what train views score."""
    threshold = inspector.threshold
    if threshold is not None:
        return threshold.map_scale
    gallery = load_gallery(folder.gallery_path)
    device = inspector.model.gaussians.means.device
    scores = [
        float(inspector.scorer(gallery.image(view).to(device), gallery.camera(view)).score)
        for view in range(0, len(gallery), max(1, len(gallery) // _VIEWS_FOR_SCALE))
    ]
    return 2 * max(scores) or 1.0
