"""Table 4: how far coarse and refined poses are from the true ones."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.paper.plan import TEST_SPLIT, Job, Settings, headline
from gaussian_renderer import choose_device
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.presets import DETECTION
from pose_estimation import (
    Hypothesis,
    Matcher,
    PoseSettings,
    rotation_error,
    translation_error,
)
from scene import Camera, InputError, read_capture, true_poses

_FOUND_DEGREES, _FOUND_UNITS = 1.0, 0.02


class _Listener:
    """A matcher that remembers the coarse poses it gave last."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher, self.name = matcher, matcher.name
        self.last: list[Hypothesis] = []

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """Those of the matcher."""
        return self.coarse_poses_many(image[None], camera)[0]

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """Those of the matcher; the last query's are kept."""
        found = self.matcher.coarse_poses_many(images, camera)
        self.last = found[-1]
        return found


def measure_poses(job: Job, settings: Settings, model: Path) -> dict[str, Any]:
    """Pose errors of a trained model: {"summary", "images"}.

    Measured on the test split of a Blender scene, and elsewhere on the train views that were held
    out of training, gallery and memory. Raises InputError when there are none.
    """
    device, _ = choose_device(settings.device, settings.backend)
    torch.set_num_threads(settings.threads)
    images, split = _images(job, settings, model)
    inspector = _inspector(job, settings, model, device)
    listener = _Listener(inspector.matcher)
    inspector = replace(inspector, matcher=listener)
    entries = []
    for name, (path, truth) in tqdm(images.items(), desc="poses", unit="image"):
        found = inspector.locate(inspector.read(path)[None].to(device))[0]
        entries.append(
            {
                "name": name,
                "coarse": _error(listener.last[0].world_to_camera, truth),
                "final": _error(found.world_to_camera, truth),
                "seconds": {stage: found.seconds[stage] for stage in ("coarse", "refine")},
            }
        )
    return {"summary": summarise(entries) | {"split": split}, "images": entries}


def summarise(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, median and worst errors of both stages, shares found, and median seconds."""
    summary: dict[str, Any] = {"n_images": len(entries)}
    for stage in ("coarse", "final"):
        errors = [entry[stage] for entry in entries]
        summary[stage] = {
            kind: {
                "mean": statistics.fmean(error[kind] for error in errors),
                "median": statistics.median(error[kind] for error in errors),
                "worst": max(error[kind] for error in errors),
            }
            for kind in ("translation", "rotation_rad")
        }
        found = [
            error["rotation_rad"] <= _FOUND_DEGREES * torch.pi / 180
            and error["translation"] <= _FOUND_UNITS
            for error in errors
        ]
        summary[stage]["found"] = sum(found) / len(found)
    summary["seconds"] = {
        stage: statistics.median(entry["seconds"][stage] for entry in entries)
        for stage in ("coarse", "refine")
    }
    return summary


def _error(pose: Tensor, truth: Tensor) -> dict[str, float]:
    return {
        "translation": float(translation_error(pose, truth)),
        "rotation_rad": float(rotation_error(pose, truth)),
    }


def _images(
    job: Job, settings: Settings, model: Path
) -> tuple[dict[str, tuple[Path, Tensor]], str]:
    """Image files with their true poses by name, and what they are."""
    capture = read_capture(job.source, settings.resolution)
    if capture.format == "blender":
        truth = true_poses(capture)
        queries = [query for query in capture.queries if query.name in truth]
        images = {query.name: (query.image_path, truth[query.name]) for query in queries}
        split = TEST_SPLIT
    else:
        held_out = set(ModelFolder(model).load_config()["held_out"])
        views = [view for view in capture.views if view.name in held_out]
        images = {view.name: (view.image_path, view.camera.world_to_camera) for view in views}
        split = "held-out train views"
    if not images:
        raise InputError(
            f"'{job.source}' leaves no images with known poses: raise --views, or hold views out "
            "with --holdout-every 10"
        )
    return images, split


def _inspector(job: Job, settings: Settings, model: Path, device: torch.device) -> Inspector:
    assert job.preset is not None
    preset = DETECTION[job.preset]
    if settings.matcher is not None:
        preset = replace(preset, matcher=settings.matcher)
    # No anomaly map is made here, so that no weights of a backbone are needed.
    preset = replace(preset, features="rgb")
    own = headline(job.method)
    pose = PoseSettings(method=own.refine, steps=own.steps)
    weights = None if settings.weights is None else Path(settings.weights)
    own_settings = InspectionSettings(
        preset, device, settings.backend, settings.threads, weights, pose=pose
    )
    return open_inspector(ModelFolder(model), own_settings)
