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

from anomaly import HeldOut, ResidualMemory, fit_standardisation, make_features, outer
from anomaly import calibrate as calibrate_scores
from anomaly.calibration import MINIMAL_COUNT
from anomaly.standardise import DIAGONAL
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

from .model_folder import CALIBRATION, ModelFolder
from .normality import (
    Normality,
    build_memory,
    common_moments,
    compare,
    corrected,
)
from .optimise import Optimisation, read_views
from .presets import DETECTION
from .quality import held_out_quality
from .start import silhouettes

_VIEWS_FOR_MOMENTS = 64  # train views whose corrected residual is averaged on the Gaussians
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
        document: dict[str, Any] = {
            "version": CALIBRATION,
            "pose_check": None if check is None else check.as_json(),
        }
        if memory is not None:
            features, _ = make_features(DETECTION[preset].features, device=run.device)
            common = _common(model, memory, cameras, images)
            document["features"] = features.name
            document["scores"] = _standardise(folder, model, memory, common, located)
        write_json(folder.calibration_path, document)
    return quality


def _common(
    model: ObjectRenderer, memory: ResidualMemory, cameras: list[Camera], images: list[Tensor]
) -> Tensor:
    """Second moments of each Gaussian's residual in train views, others correcting, [N, 6]."""
    chosen = range(0, len(cameras), max(1, len(cameras) // _VIEWS_FOR_MOMENTS))
    residuals = []
    for number in tqdm(chosen, desc="normal residuals", unit="view", file=sys.stderr):
        expectation = memory.expect(cameras[number].world_to_camera[:3, :3], exclude=number)
        nothing = model.gaussians.means.new_zeros(len(model.gaussians), 0)
        shown = corrected(model, cameras[number], expectation, nothing)
        residuals.append(compare(images[number], shown)[1])
    return common_moments(model, [cameras[number] for number in chosen], residuals)


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


def _standardise(
    folder: ModelFolder,
    model: ObjectRenderer,
    memory: ResidualMemory,
    common: Tensor,
    located: list[Located],
) -> dict[str, Any]:
    """Fits the unit, writes calibration.npz; returns the held-out scores for calibration.json."""
    usual = float(common[:, DIAGONAL].mean(dim=1).sqrt().median())
    views = (_held_out(model, memory, common, view) for view in located)
    unit, scores = fit_standardisation(views, usual)
    with atomic_write(folder.memory_path) as file:
        np.savez_compressed(file, **Normality(memory, common, unit).arrays())  # type: ignore[arg-type]
    return calibrate_scores(scores).to_dict()


def _held_out(
    model: ObjectRenderer, memory: ResidualMemory, common: Tensor, view: Located
) -> HeldOut:
    """Residual of a good view, and the parts of its covariance."""
    expectation = memory.expect(view.camera.world_to_camera[:3, :3])
    parts = (common.cpu(), expectation.covariance, outer(expectation.mean.T).T)
    shown = corrected(model, view.camera, expectation, torch.cat(parts, dim=1))
    residual = compare(view.image, shown)[1]
    common_map, near, correction = shown.maps.split(6)
    return HeldOut(residual, common_map, near, correction, shown.alpha > _RIM_ALPHA)


def _floats(images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    return [image.to(device).float().div_(255) for image in images]


def view_silhouettes(
    capture: Capture, views: Sequence[View], images: Sequence[Tensor]
) -> list[Tensor] | None:
    """[H, W] bool per view, or None where no plain background stands behind the object."""
    return None if capture.background is None else silhouettes(capture, views, images)
