"""Trainings of seconds, shared by the tests of the pipeline."""

from dataclasses import replace
from pathlib import Path

from pipeline.model_folder import ModelFolder
from train import TrainConfig

ITERATIONS = 200  # enough that rendered views fit: without that, nothing could be calibrated


def small(capture: Path, model: Path, **more: object) -> TrainConfig:
    """A run of seconds."""
    values = {
        "iterations": ITERATIONS, "checkpoint_every": 20, "holdout_every": 4,
        "max_gaussians": 400,
    }  # fmt: skip
    return replace(TrainConfig(source=capture, model=model), **(values | more))


def point_cloud(model: Path, iterations: int = ITERATIONS) -> bytes:
    """The bytes of the trained PLY."""
    return ModelFolder(model).point_cloud_path(iterations).read_bytes()
