"""Judges images of a trained object: pose, anomaly map, score, verdict, report.

    python detect.py --model out/Gorilla                          the data set's test images
    python detect.py --model out/Gorilla --images photo.png       one image, or a folder of them
    python detect.py --model out/Gorilla --preset paper --weights weights/

Writes results.json, results.csv, maps/, overlays/ and report.html.
"""

import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from tqdm import tqdm

from gaussian_renderer.backends import choose_device
from pipeline.command_line import run
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder, provenance
from pipeline.open_model import DetectionChoice, open_inspector
from pipeline.outputs import OutputFolder
from pipeline.presets import DETECTION
from pipeline.results import Results, true_poses_of
from scene import InputError, Query, read_capture, read_queries


@dataclass(frozen=True)
class DetectConfig:
    """Every knob of a detection run."""

    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """Model folder that train.py wrote."""
    images: Path | None = None
    """An image or a folder of images; default: the test images of the training data set."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to write to; default: <model>/detections/<date and time>."""
    preset: Literal["model", "default", "paper"] = "model"
    """`paper`: LoFTR, 175 Adam steps, EfficientNet-b4, maximum. `model`: as it was trained."""
    matcher: Literal["auto", "loftr", "xfeat", "classical"] | None = None
    """Coarse pose, instead of the preset's."""
    refine: Literal["auto", "lm", "adam"] | None = None
    """Refinement of the pose, instead of the preset's."""
    steps: int = 175
    """Adam steps (the paper's k)."""
    features: Literal["auto", "efficientnet_b4", "classical", "rgb"] | None = None
    """What is compared, instead of the preset's."""
    weights: Path | None = None
    """Folder with weight files, for machines without a network."""
    false_alarm_rate: float = 0.01
    """Share of good images that may be called anomalous; sets the threshold."""
    backend: str = "auto"
    """auto, cpu, gsplat, graphdeco or reference."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 1
    """CPU threads."""


@dataclass(frozen=True)
class Detections:
    """What a run found."""

    folder: Path
    results: dict[str, Any] = field(repr=False)  # the content of results.json
    failures: list[str] = field(default_factory=list)  # one sentence per image that was not judged


def detect(config: DetectConfig) -> Detections:
    """Judges the queries of one object. Raises InputError for anything that the user can mend.

    An image that cannot be read is reported in `failures`, the others go on.
    """
    _check(config)
    folder = ModelFolder(config.model)
    model = folder.load_config()
    device, words = choose_device(config.device, config.backend)
    torch.set_num_threads(config.threads)
    queries = _queries(config, model)
    choice = _choice(config, model)
    inspector = open_inspector(folder, model, choice, device)
    remarks = [words, *inspector.notes]
    print(f"{model['name']}: {len(queries)} images; " + "; ".join(remarks))
    output = OutputFolder(config.output or _new_folder(folder), inspector.display_scale)
    results = Results(inspector.threshold(config.false_alarm_rate), true_poses_of(config.images, model))
    failures = []
    for query in tqdm(queries, unit="image", file=sys.stderr):
        try:
            _judge(query, inspector, results, output)
        except InputError as error:
            failures.append(str(error))
            results.add_failure(query, str(error))
            tqdm.write(f"error: {error}", file=sys.stderr)
    settings = config_as_json(config) | asdict_json(choice) | {"remarks": remarks, **provenance()}
    document = results.document(settings)
    output.write(document, results, model["name"], remarks)
    _say(document, output.root)
    return Detections(output.root, document, failures)
