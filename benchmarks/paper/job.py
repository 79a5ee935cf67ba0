"""One job, in whatever process an engine runs it."""

import contextlib
import os
import shutil
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.common import cpu_model
from benchmarks.paper.anomalib_baselines import run_anomalib
from benchmarks.paper.plan import Job, Settings, Variant, results_path
from benchmarks.paper.poses import measure_poses
from detect import DetectConfig, detect
from pipeline.model_folder import ModelFolder, provenance
from scene import InputError, read_json, write_json
from train import TrainConfig, train


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    id: str
    state: Literal["done", "had been done", "busy", "failed"]
    seconds: float = 0.0
    message: str = ""  # why it failed


@dataclass(frozen=True)
class Worker:
    """Does jobs of one benchmark; plain data, so that it can be sent to another machine."""

    settings: Settings
    root: str  # folder of the benchmark, absolute

    def __call__(self, job: Job) -> Outcome:
        """Runs one job, or what is left of it; everything that it says goes to its log.txt."""
        root, started = Path(self.root), time.monotonic()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(ModelFolder(root / job.id).lock())
            except InputError as error:
                return Outcome(job.id, "busy", message=str(error))
            if job.is_finished(root):  # perhaps by a run that ended a moment ago
                return Outcome(job.id, "had been done")
            log = stack.enter_context(open(log_path(job, root), "a", encoding="utf-8"))
            print(f"begun at {datetime.now():%Y-%m-%d %H:%M:%S}", file=log, flush=True)
            stack.enter_context(contextlib.redirect_stdout(log))
            stack.enter_context(contextlib.redirect_stderr(log))
            try:
                write_json(results_path(job, root), _measure(job, self.settings, root))
            except InputError as error:
                return Outcome(job.id, "failed", message=str(error))
            except Exception as error:  # one broken class must not end a night's run
                traceback.print_exc()
                message = f"{type(error).__name__}: {error} (see {log_path(job, root)})"
                return Outcome(job.id, "failed", message=message)
        return Outcome(job.id, "done", time.monotonic() - started)


def log_path(job: Job, root: Path) -> Path:
    """What a job has said."""
    return root / job.id / "log.txt"


def _measure(job: Job, settings: Settings, root: Path) -> dict[str, Any]:
    """The content of a job's results.json."""
    if job.preset is None:
        measured = run_anomalib(job, settings)
    else:
        measured = _train_and_detect(job, settings, root / job.id)
    return {
        "job": asdict(job),
        "settings": asdict(settings),
        **measured,
        "hardware": hardware(settings.device),
        **provenance(),
    }


def _train_and_detect(job: Job, settings: Settings, folder: Path) -> dict[str, Any]:
    model = train(training(job, settings, folder / "model"))
    config = read_json(ModelFolder(model).config_path)
    detections = {
        variant.name: _detect(settings, model, folder / variant.name, variant)
        for variant in job.variants
    }
    done = folder / "results.json"
    if done.is_file():  # measured earlier, by a smaller grid
        detections = read_json(done)["detections"] | detections
    return {
        "training_seconds": config["training_seconds"],
        "calibration_seconds": _calibration_seconds(model, config),
        "iterations": config["settings"]["iterations"],
        "held_out_quality": config["held_out_quality"],
        "n_gaussians": config["n_gaussians"],
        "views": config["views"],
        "detections": detections,
        "poses": _poses(job, settings, model, folder / "poses.json"),
    }


def _calibration_seconds(model: Path, config: dict[str, Any]) -> float:
    """From the end of the optimisation, when the PLY is written, to the end of the calibration."""
    folder = ModelFolder(model)
    cloud = folder.point_cloud_path(config["settings"]["iterations"])
    return folder.calibration_path.stat().st_mtime - cloud.stat().st_mtime


def training(job: Job, settings: Settings, model: Path) -> TrainConfig:
    """The training that a job stands for."""
    assert job.preset is not None
    every = settings.holdout_every if job.holdout_every is None else job.holdout_every
    return TrainConfig(
        source=Path(job.source), model=model, preset=job.preset, iterations=settings.iterations,
        max_gaussians=settings.max_gaussians, holdout_every=every, views_fraction=job.share,
        resolution=settings.resolution, seed=job.seed, backend=settings.backend,
        device=settings.device, threads=settings.threads,
        checkpoint_every=settings.checkpoint_every,
    )  # fmt: skip


def _detect(settings: Settings, model: Path, output: Path, variant: Variant) -> dict[str, Any]:
    """Summary of the detections with one refinement; made only if they are not there."""
    if not (output / "results.json").is_file():
        detect(
            DetectConfig(
                model=model, output=output, matcher=settings.matcher,
                refine=variant.refine, steps=variant.steps,
                features=settings.features,  # type: ignore[arg-type]
                weights=None if settings.weights is None else Path(settings.weights),
                backend=settings.backend, device=settings.device, threads=settings.threads,
            )
        )  # fmt: skip
    if not settings.keep_maps:
        for name in ("maps", "overlays"):
            shutil.rmtree(output / name, ignore_errors=True)
    found = read_json(output / "results.json")
    return found["summary"] | {"notes": found["settings"]["notes"]}


def _poses(job: Job, settings: Settings, model: Path, path: Path) -> dict[str, Any] | None:
    """Pose errors, measured once; None where the job does not ask for them and none are there."""
    if job.poses and not path.is_file():
        write_json(path, measure_poses(job, settings, model))
    return read_json(path)["summary"] if path.is_file() else None


def hardware(device: str) -> dict[str, Any]:
    """The machine that a job ran on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() and device != "cpu" else None
    return {"cpu": cpu_model(), "cores": os.cpu_count(), "gpu": gpu}
