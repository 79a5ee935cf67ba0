"""How small a defect is found: synthetic ones painted onto views that the model was not fitted to.

    python -m benchmarks.painted --model out/brick_dog out/brick_parrot --json out/painted.json

Settings of the anomaly map are chosen by this, never by test images. Painted are the views kept out
of training, at their estimated poses, and some train views; the residual memory leaves each out in
turn (train views are easier: the Gaussians were fitted to them).
AUROC: painted against unpainted views; found: share of the defects above mean + 2 standard
deviations of the unpainted views' log-scores.
A second table shows the unpainted views kept out in another light: how many pass the threshold for
5 % when the camera's exposure or white balance changes, background included, or the lamp alone.
"""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from anomaly import image_figures
from anomaly.normal_model import Prediction, compare, predict
from anomaly.scoring import CalibratedScorer
from pipeline.command_line import run
from pipeline.model_folder import ModelFolder, provenance
from pipeline.open_model import OpenModel, Parts, open_model
from pipeline.presets import DETECTION
from pose_estimation import PoseSettings
from scene import Camera, InputError, View, read_capture, write_json

from .painting import KINDS, paint

LIGHTS = {
    "as trained": (1.0, 1.0, 1.0),
    "exposure x 0.7": (0.7, 0.7, 0.7),
    "exposure x 1.4": (1.4, 1.4, 1.4),
    "warmer": (1.15, 1.0, 0.85),
}  # gains of r, g, b
_RATE = 0.05  # false-alarm rate of the second table
_TAIL = 2.0  # standard deviations of the log-scores at which a defect counts as found


@dataclass(frozen=True)
class PaintedConfig:
    """Trained models and where the figures go."""

    model: tuple[Path, ...]
    """Model folders of train.py, trained with views kept out."""
    json: Path | None = None
    """File for the figures."""
    repeats: int = 3
    """Defects of each kind on each view."""
    train_views: int = 12
    """Train views to paint on as well."""
    threads: int = 1
    """CPU threads."""


def measure(path: Path, config: PaintedConfig) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of figures of one model (group of views, kind, AUROC, share found), and false alarms.

    Raises InputError.
    """
    folder = ModelFolder(path)
    parts = Parts(DETECTION["default"], PoseSettings(threads=config.threads), None, _RATE)
    opened = open_model(folder, parts, torch.device("cpu"))
    scorer = opened.inspector.scorer
    limit = opened.threshold(_RATE)
    if not isinstance(scorer, CalibratedScorer) or limit is None:
        raise InputError(f"'{path}' has no calibration: train it with views kept out")
    stored = folder.load_config()
    capture = read_capture(stored["settings"]["source"], stored["settings"]["resolution"])
    views = {view.name: view for view in capture.views}
    remembered = [*stored["views"], *stored["held_out"]]  # in the order of the memory
    train = stored["views"][:: max(1, len(stored["views"]) // max(1, config.train_views))]
    rows: list[dict[str, Any]] = []
    names_of_lights = (f"{light}, {what}" for light in LIGHTS for what in ("camera", "lamp"))
    alarms = dict.fromkeys(names_of_lights, 0)
    for group, names in (("kept out", stored["held_out"]), ("train", train[: config.train_views])):
        good: list[float] = []
        found: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
        for number, name in enumerate(tqdm(names, desc=f"{opened.name}, {group}", unit="view")):
            exclude = remembered.index(name)
            image, camera = _view(opened, views[name], group == "kept out")
            shown = predict(scorer.model, camera, scorer.normality, exclude)
            good.append(_score(scorer, image, shown))
            if group == "kept out":
                for light, changed in _lit(image, shown):
                    alarms[light] += _score(scorer, changed, shown) > limit.value
            for kind, painted in _painted(image, shown, opened, config.repeats, number):
                found[kind].append(_score(scorer, painted, shown))
        if good:
            rows += _rows(opened.name, group, good, found)
    return rows, {"views": len(stored["held_out"])} | alarms


def _lit(image: Tensor, shown: Prediction) -> Iterator[tuple[str, Tensor]]:
    """The image under every light, of the whole picture and of the object alone."""
    for light, gains in LIGHTS.items():
        changed = (image * image.new_tensor(gains)[:, None, None]).clamp(0.0, 1.0)
        yield f"{light}, camera", changed
        yield f"{light}, lamp", torch.where(shown.alpha > 0.5, changed, image)


def _view(opened: OpenModel, view: View, estimated: bool) -> tuple[Tensor, Camera]:
    """Image and camera, at the estimated pose or at the true one."""
    image, camera = opened.inspector.read(view.image_path)
    if not estimated:
        return image, view.camera
    return image, camera.at(opened.inspector.locate(image, camera).world_to_camera)


def _painted(
    image: Tensor, shown: Prediction, opened: OpenModel, repeats: int, number: int
) -> Iterator[tuple[str, Tensor]]:
    """Every kind of defect on one view, the draws fixed by view, repeat and kind."""
    background = opened.inspector.model.background.tolist()
    for index, kind in enumerate(KINDS):
        for repeat in range(repeats):
            random = np.random.default_rng([number, repeat, index])
            yield kind.name, paint(image, shown.alpha > 0.5, background, kind, random).image


def _score(scorer: CalibratedScorer, image: Tensor, shown: Prediction) -> float:
    _, residual = compare(image, shown)
    return float(scorer.normality(residual, shown).max())


def _rows(
    name: str, group: str, good: list[float], found: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """One row per kind, and their mean."""
    logs = [math.log(max(score, 1e-12)) for score in good]
    limit = math.exp(statistics.fmean(logs) + _TAIL * statistics.stdev(logs))
    rows: list[dict[str, Any]] = []
    for kind, scores in found.items():
        labels = [False] * len(good) + [True] * len(scores)
        auroc = image_figures(good + scores, labels)["auroc"]
        share = sum(score > limit for score in scores) / len(scores)
        rows.append({"object": name, "views": group, "kind": kind, "auroc": auroc, "found": share})
    mean = {key: statistics.fmean(row[key] for row in rows) for key in ("auroc", "found")}
    return [*rows, {"object": name, "views": group, "kind": "all", **mean}]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, a line per object and group of views."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = ["| object | views | " + " | ".join(kinds) + " |", "|" + "---|" * (len(kinds) + 2)]
    for name, group in dict.fromkeys((row["object"], row["views"]) for row in rows):
        cells = [
            f"{row['auroc']:.3f} / {row['found']:.2f}"
            for row in rows
            if (row["object"], row["views"]) == (name, group)
        ]
        lines.append(f"| {name} | {group} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""

    def script() -> None:
        """Measures all models and prints what was asked for."""
        config = tyro.cli(PaintedConfig, description=__doc__)
        torch.set_num_threads(config.threads)
        with torch.no_grad():
            found = {str(path): measure(path, config) for path in config.model}
        rows = [row for figures, _ in found.values() for row in figures]
        alarms = {name: counts for name, (_, counts) in found.items()}
        if config.json is not None:
            write_json(config.json, {"rows": rows, "false_alarms": alarms, **provenance()})
        print(table(rows))
        for name, counts in alarms.items():
            print(f"{name}: {counts}")

    run(script)


if __name__ == "__main__":
    main()
