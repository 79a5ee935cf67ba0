"""After training, with the frozen model: what the coarse stage needs, and what normal looks like.

Constants come from the views kept out of training, their poses estimated as a query's would be.
"""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from anomaly import (
    Features,
    HeldOut,
    ResidualMemory,
    Standardisation,
    fit_standardisation,
    make_features,
)
from anomaly import calibrate as calibrate_scores
from anomaly.calibration import MINIMAL_COUNT
from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import (
    Gallery,
    PoseCheck,
    PoseSettings,
    build_gallery,
    calibrate_pose_check,
    save_gallery,
    select_matcher,
)
from scene import Camera, Capture, Gaussians, View, atomic_write, write_json

from .model_folder import ModelFolder
from .normality import Normality, build_memory, expected_residual, predict, residual_map
from .optimise import Optimisation, read_views
from .presets import DETECTION
from .quality import held_out_quality
from .scoring import CalibratedScorer
from .start import silhouettes

_VIEWS_FOR_EXPECTED = 64  # train views whose corrected residual is averaged on the Gaussians
_RIM_ALPHA = 0.05  # where the object covers at least so much of a pixel, a defect could lie


class Located(NamedTuple):
    """A held-out view at its estimated pose."""

    image: Tensor  # [3, H, W]
    camera: Camera  # at the estimated pose


def calibrate(
    folder: ModelFolder,
    gaussians: Gaussians,
    held_out: tuple[View, ...],
    run: Optimisation,
    preset: str,
) -> dict[str, float | None]:
    """Writes gallery and calibration; returns the quality on the held-out views."""
    model = ObjectRenderer(gaussians, run.background, run.backend, run.threads)
    images = _floats(read_views(run.capture, run.views), run.device)
    kept = _floats(read_views(run.capture, held_out), run.device)
    quality = held_out_quality(
        model, [v.camera for v in held_out], kept, view_silhouettes(run.capture, held_out, kept)
    )
    cameras = [view.camera for view in run.views]
    gallery = build_gallery(
        gaussians, cameras, images, view_silhouettes(run.capture, run.views, images),
        None if run.capture.background is None else run.background,
        backend=run.backend, threads=run.threads,
    )  # fmt: skip
    save_gallery(gallery, folder.gallery_path)
    if len(held_out) >= MINIMAL_COUNT:
        calibrated = DETECTION[preset].calibrated
        memory = build_memory(model, cameras, images) if calibrated else None
        check, located = _locate(model, gallery, held_out, kept, memory)
        document = {"pose_check": None if check is None else check.as_json()}
        if memory is not None:
            features, _ = make_features(DETECTION[preset].features, device=run.device)
            expected = _expected(model, memory, features, cameras, images)
            unit = _unit(model, memory, expected, features, located)
            normality = Normality(memory, expected, unit)
            document |= _scores(folder, model, features, normality, located)
        write_json(folder.calibration_path, document)
    return quality


def _expected(
    model: ObjectRenderer,
    memory: ResidualMemory,
    features: Features,
    cameras: list[Camera],
    images: list[Tensor],
) -> Tensor:
    """Mean residual of each Gaussian in train views, corrected by the other views, [N]."""
    chosen = range(0, len(cameras), max(1, len(cameras) // _VIEWS_FOR_EXPECTED))
    roots = []
    for number in tqdm(chosen, desc="normal residuals", unit="view", file=sys.stderr):
        shown = predict(model, cameras[number], memory, None, features.sigma, exclude=number).image
        roots.append(residual_map(features, images[number], shown).sqrt())
    return expected_residual(model, [cameras[number] for number in chosen], roots)


def _locate(
    model: ObjectRenderer,
    gallery: Gallery,
    held_out: tuple[View, ...],
    kept: list[Tensor],
    memory: ResidualMemory | None,
) -> tuple[PoseCheck | None, list[Located]]:
    """The pose check, and the held-out views with their poses estimated as those of queries."""
    settings = PoseSettings(backend=model.backend, threads=model.threads)
    matcher = select_matcher(
        "classical", gallery, model.gaussians, backend=model.backend, threads=model.threads
    ).matcher
    cameras = [view.camera for view in held_out]
    images = tqdm(kept, desc="calibration", unit="view", file=sys.stderr)
    check, poses = calibrate_pose_check(
        model.gaussians, matcher, cameras, images, model.background, settings, memory
    )
    located = [
        Located(image, camera.at(pose.world_to_camera))
        for image, camera, pose in zip(kept, cameras, poses, strict=True)
    ]
    return check, located


def _unit(
    model: ObjectRenderer,
    memory: ResidualMemory,
    expected: Tensor,
    features: Features,
    located: list[Located],
) -> Standardisation:
    """The unit of residuals, fitted to the held-out views."""
    normal = []
    for view in located:
        shown = predict(model, view.camera, memory, expected, features.sigma)
        residual = residual_map(features, view.image, shown.image)
        normal.append(HeldOut(residual, shown.expected, shown.spread, shown.alpha > _RIM_ALPHA))
    return fit_standardisation(normal)


def _scores(
    folder: ModelFolder,
    model: ObjectRenderer,
    features: Features,
    normality: Normality,
    located: list[Located],
) -> dict[str, Any]:
    """Writes calibration.npz; returns the scores of the held-out views for calibration.json."""
    with atomic_write(folder.memory_path) as file:
        np.savez_compressed(file, **normality.arrays())  # type: ignore[arg-type]
    scorer = CalibratedScorer(model, features, normality)
    scores = [scorer(view.image, view.camera)[2] for view in located]
    return {"features": features.name, "scores": calibrate_scores(scores).to_dict()}


def _floats(images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    return [image.to(device).float().div_(255) for image in images]


def view_silhouettes(
    capture: Capture, views: Sequence[View], images: Sequence[Tensor]
) -> list[Tensor] | None:
    """[H, W] bool per view, or None where no plain background stands behind the object."""
    return None if capture.background is None else silhouettes(capture, views, images)
