"""After training, with the frozen model: what the coarse stage needs, and what normal looks like.

Constants come from the views kept out of training, their poses estimated as a query's would be.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from anomaly import (
    HeldOut,
    ResidualMemory,
    fit_standardisation,
    level_out,
    make_features,
    outer,
)
from anomaly import calibrate as calibrate_scores
from anomaly.learn_normal_model import build_memory, learn_place
from anomaly.mahalanobis import DIAGONAL
from anomaly.normal_model import Normality, Place, compare, corrected, predict
from anomaly.specular import FRAMES
from anomaly.threshold import MINIMAL_COUNT
from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import (
    Gallery,
    PoseCheck,
    PoseSettings,
    build_gallery,
    calibrate_pose_check,
    reprojection_shift,
    save_gallery,
    select_matcher,
)
from scene import Camera, Capture, Gaussians, View, atomic_write, write_json

from .model_folder import CALIBRATION, ModelFolder
from .optimise import Optimisation, read_views
from .presets import DETECTION
from .quality import held_out_quality
from .start import silhouettes

_VIEWS_FOR_MOMENTS = 64  # train views whose corrected residual is averaged on the Gaussians
_POINTS = 1000  # of the object, whose place in the picture tells two poses apart
_SUSPICIOUS = 1.0  # pixels between given and estimated poses
_SEEN_VIEWS = 24  # train views that show how low scores are where the memory knows the very view
_SMALLEST = 1e-12  # score of a map of zeros, so that it has a logarithm
_RIM_ALPHA = 0.05  # where the object covers at least so much of a pixel, a defect could lie


class Located(NamedTuple):
    """A held-out view at its estimated pose."""

    image: Tensor  # [3, H, W]
    camera: Camera  # at the estimated pose
    given: Camera  # as the capture says


class Seen(NamedTuple):
    """What the calibration may look at of the views that were learnt."""

    cameras: list[Camera]
    images: list[Tensor]  # [3, H, W] each


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
    seen = Seen([view.camera for view in run.views], images)
    gallery = build_gallery(
        gaussians, seen.cameras, images, view_silhouettes(run.capture, run.views, images),
        None if run.capture.background is None else run.background,
        backend=run.backend, threads=run.threads,
    )  # fmt: skip
    save_gallery(gallery, folder.gallery_path)
    detection = DETECTION[preset]
    if len(held_out) >= MINIMAL_COUNT:
        memory = build_memory(model, *seen) if detection.calibrated else None
        check, located, trusted = _locate(model, gallery, held_out, kept, memory)
        enough = len(trusted) >= MINIMAL_COUNT
        shift = quality["pose_shift"] = _pose_shift(gaussians, trusted if enough else located)
        _warn(len(trusted), len(held_out), shift)
        document: dict[str, Any] = {
            "version": CALIBRATION,
            "pose_check": None if check is None else check.as_json(),
        }
        if memory is not None and enough:
            normality, scores = _learn_normality(model, memory, seen, trusted)
            own = build_memory(model, [view.camera for view in held_out], kept)
            _save_normality(replace(normality, memory=memory.joined(own)), folder)
            document["features"] = make_features(detection.features, device=run.device)[0].name
            document["scores"] = calibrate_scores(scores).to_dict()
        write_json(folder.calibration_path, document)
    elif detection.calibrated:
        _warn_of_few(len(held_out))
    return quality


def _save_normality(normality: Normality, folder: ModelFolder) -> None:
    with atomic_write(folder.memory_path) as file:
        np.savez_compressed(file, **normality.arrays())  # type: ignore[arg-type]


def _learn_normality(
    model: ObjectRenderer, memory: ResidualMemory, seen: Seen, located: list[Located]
) -> tuple[Normality, list[float]]:
    """What is normal, and the scores of the held-out views, none of which judged itself."""
    place = _place(model, memory, seen)
    usual = float(place.common[:, DIAGONAL].mean(dim=1).sqrt().median())
    views = (_held_out(model, memory, place, view) for view in located)
    unit, scores = fit_standardisation(views, usual)
    gaps = [memory.gap(view.camera.world_to_camera[:3, :3]) for view in located]
    known = Normality(memory, place, unit)
    level, scores = level_out(gaps, scores, _seen_scores(model, known, seen))
    return replace(known, level=level), scores


def _seen_scores(model: ObjectRenderer, known: Normality, seen: Seen) -> list[float]:
    """Scores of train views where the memory knows the very view: as low as scores get."""
    scores = []
    for number in _spread(len(seen.cameras), _SEEN_VIEWS):
        shown = predict(model, seen.cameras[number], known)
        residual = compare(seen.images[number], shown)[1]
        scores.append(max(float(known(residual, shown).max()), _SMALLEST))
    return scores


def _place(model: ObjectRenderer, memory: ResidualMemory, seen: Seen) -> Place:
    """What the residuals of train views are like at each Gaussian, other views correcting."""
    chosen = _spread(len(seen.cameras), _VIEWS_FOR_MOMENTS)
    residuals = []
    for number in tqdm(chosen, desc="normal residuals", unit="view", file=sys.stderr):
        camera = seen.cameras[number]
        expectation = memory.expect(camera.world_to_camera[:3, :3], exclude=number)
        nothing = model.gaussians.means.new_zeros(len(model.gaussians), 0)
        shown = corrected(model, camera, expectation, nothing)
        residuals.append(compare(seen.images[number], shown)[1])
    return learn_place(model, [seen.cameras[number] for number in chosen], residuals)


def _spread(count: int, about: int) -> range:
    """At least `about` of `count` numbers at equal distances, or all of fewer."""
    return range(0, count, max(1, count // about))


def _locate(
    model: ObjectRenderer,
    gallery: Gallery,
    held_out: tuple[View, ...],
    kept: list[Tensor],
    memory: ResidualMemory | None,
) -> tuple[PoseCheck | None, list[Located], list[Located]]:
    """The pose check; the held-out views, their poses estimated as those of queries; the trusted.

    Only the trusted can say what scores are normal: a query whose pose the check refuses gets no
    verdict either, and at a wrong pose the score says nothing.
    """
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
        Located(image, camera.at(pose.world_to_camera), camera)
        for image, camera, pose in zip(kept, cameras, poses, strict=True)
    ]
    trusted = [
        view
        for view, pose in zip(located, poses, strict=True)
        if check is not None and check.accepts(pose.evidence)
    ]
    return check, located, trusted


def _pose_shift(gaussians: Gaussians, located: list[Located]) -> float:
    """Median distance in the picture of given from estimated poses, pixels."""
    points = gaussians.means[:: max(1, len(gaussians) // _POINTS)].detach().cpu()
    shifts = [reprojection_shift(points, view.given, view.camera) for view in located]
    return float(np.median(shifts))


def _warn_of_few(kept_out: int) -> None:
    print(
        f"warning: {kept_out} views kept out are too few for a threshold (at least "
        f"{MINIMAL_COUNT}): detect.py will give scores but no verdicts; use more views, or "
        "--holdout-every with a smaller number"
    )


def _warn(trusted: int, kept_out: int, shift: float) -> None:
    """Says what the views kept out tell of the poses of queries, where that is bad."""
    if trusted < MINIMAL_COUNT:
        print(
            f"warning: of {kept_out} views kept out, {trusted} were found again in the model, too "
            "few for a threshold: detect.py will give scores but no verdicts; more views, more "
            "--iterations, --refine-poses or a plain background behind the object help"
        )
    elif shift > _SUSPICIOUS:
        print(
            f"the given poses of the views kept out are {shift:.1f} pixels (median) from those "
            "found in the model: if the given ones are inexact, train with --refine-poses"
        )


def _held_out(
    model: ObjectRenderer, memory: ResidualMemory, place: Place, view: Located
) -> HeldOut:
    """Residual of a good view, and the parts of its covariance."""
    expectation = memory.expect(view.camera.world_to_camera[:3, :3])
    commons = [place.moments(model, view.camera, frame) for frame in FRAMES]
    parts = (*commons, expectation.covariance, outer(expectation.mean, dim=-1))
    shown = corrected(model, view.camera, expectation, torch.cat(parts, dim=1))
    residual = compare(view.image, shown)[1]
    *common_maps, near, correction = shown.maps.split(6)
    return HeldOut(residual, torch.stack(common_maps), near, correction, shown.alpha > _RIM_ALPHA)


def _floats(images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    return [image.to(device).float().div_(255) for image in images]


def view_silhouettes(
    capture: Capture, views: Sequence[View], images: Sequence[Tensor]
) -> list[Tensor] | None:
    """[H, W] bool per view, or None where no plain background stands behind the object."""
    return None if capture.background is None else silhouettes(capture, views, images)
