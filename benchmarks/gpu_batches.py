"""Queries per second of a trained model in batches of several sizes, and whether they agree."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_paths import device_waits
from pipeline.inspector import Inspection, Inspector
from pipeline.model_folder import ModelFolder
from pipeline.open_model import Parts, open_model
from pipeline.presets import DETECTION
from pose_estimation import PoseSettings, rotation_error, translation_error
from scene import InputError

SIZES = (1, 4, 16, 32)
Result = dict[str, Any]


def compare_batch_sizes(
    backend: str,
    model: Path,
    paths: Sequence[Path],
    sizes: Sequence[
        int
    ] = SIZES,  # 1, one query after the other, is what the others must agree with
    device: str = "cuda",
) -> Result:
    """Per size: queries a second from the file to the score, milliseconds by stage, memory, waits.

    Files and overlays are not written. Raises InputError when a query cannot be judged.
    """
    parts = Parts(DETECTION["default"], PoseSettings(backend=backend), None, 0.01)
    inspector = open_model(ModelFolder(model), parts, torch.device(device)).inspector
    alone: list[Inspection] = []
    result: Result = {}
    for size in sizes:
        _judge(inspector, paths[: 2 * size], size)  # warms up: memory, kernels for these shapes
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        found = _judge(inspector, paths, size)
        seconds = (
            time.perf_counter() - started
        )  # scores are numbers of the host: nothing is pending
        alone = alone or found
        stages = {stage: [query.seconds[stage] for query in found] for stage in found[0].seconds}
        result[str(size)] = {
            "queries_per_second": len(paths) / seconds,
            "waits_per_batch": _waits(inspector, paths[:size], device),
            "mean_ms": {stage: 1e3 * sum(all_) / len(all_) for stage, all_ in stages.items()},
            "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None,
            **_agreement(found, alone),
        }
    return result


def _waits(inspector: Inspector, paths: Sequence[Path], device: str) -> int | None:
    """How often one batch makes the host wait for the GPU; None without one."""
    return device_waits(lambda: inspector.inspect_many(paths)) if device == "cuda" else None


def _judge(inspector: Inspector, paths: Sequence[Path], size: int) -> list[Inspection]:
    judged: list[Inspection] = []
    for start in range(0, len(paths), size):
        for found in inspector.inspect_many(paths[start : start + size]):
            if isinstance(found, InputError):
                raise found
            judged.append(found)
    return judged


def _agreement(found: Sequence[Inspection], alone: Sequence[Inspection]) -> Result:
    """Largest differences of poses that both trust, and of scores."""
    pairs = list(zip(found, alone, strict=True))
    poses = [
        (ours.pose.world_to_camera, theirs.pose.world_to_camera)
        for ours, theirs in pairs
        if theirs.pose.pose_ok is not False
    ]
    return {
        "rotation_deg": max((math.degrees(float(rotation_error(*p))) for p in poses), default=0.0),
        "position": max((float(translation_error(*p)) for p in poses), default=0.0),
        "relative_score": max(abs(ours.score / theirs.score - 1) for ours, theirs in pairs),
        "other_verdicts": sum(ours.pose.pose_ok != theirs.pose.pose_ok for ours, theirs in pairs),
    }
