"""A trained and calibrated model, opened for the benchmarks of the anomaly map."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from anomaly import NormalModelScorer
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.presets import DETECTION
from scene import Capture, InputError, read_capture


class Calibrated(NamedTuple):
    """What detect.py works with, on the CPU, with the default settings."""

    inspector: Inspector
    scorer: NormalModelScorer
    threshold: float  # for the false-alarm rate asked for
    held_out_scores: tuple[float, ...]
    config: dict[str, Any]  # config.json of the model
    capture: Capture  # that it was trained on


def open_calibrated(path: Path, false_alarm_rate: float, threads: int) -> Calibrated:
    """Opens a model folder of train.py. Raises InputError, also without a calibration."""
    settings = InspectionSettings(
        DETECTION["default"], torch.device("cpu"), threads=threads,
        false_alarm_rate=false_alarm_rate,
    )  # fmt: skip
    inspector = open_inspector(ModelFolder(path), settings)
    scorer, scores = inspector.scorer, inspector.scores
    if not isinstance(scorer, NormalModelScorer) or scores is None:
        raise InputError(f"'{path}' has no calibration: train it with held-out views")
    config = ModelFolder(path).load_config()
    capture = read_capture(config["settings"]["source"], config["settings"]["resolution"])
    threshold = scores.threshold(false_alarm_rate).value
    return Calibrated(inspector, scorer, threshold, scores.scores, config, capture)
