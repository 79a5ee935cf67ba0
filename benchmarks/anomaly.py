"""What each part of the anomaly map is worth: an ablation over objects' labelled queries.

    python -m benchmarks.anomaly --model out/brick_dog out/brick_parrot --json out/ablation.json \\
        --images out/worst

Rows: features, correction by the residual memory, division by what is normal. Columns: image AUROC,
pixel AUROC, AUPRO (0.3 and 0.05), false alarms on good images at the stated rate; at the true poses
(where the data set has them) and at the estimated ones. The labels are used for scoring alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from anomaly import (
    Expectation,
    NormalModel,
    NormalModelScorer,
    PixelStatistics,
    evaluate,
    make_features,
)
from anomaly.filters import gaussian_blur
from anomaly.normal_model import predict, render_corrected
from anomaly.scoring import compare
from anomaly.view_distance import ViewDistanceScale
from gaussian_renderer import ObjectRenderer
from pipeline.command_line import run
from pipeline.model_folder import provenance
from report import encode_jpeg, overlay
from scene import Camera, Query, read_mask, true_poses, write_json

from .calibrated import Calibrated, open_calibrated


@dataclass(frozen=True)
class AblationConfig:
    """Trained models and where the figures go."""

    model: tuple[Path, ...]
    """Model folders of train.py, trained with held-out views."""
    json: Path | None = None
    """File for the figures."""
    images: Path | None = None
    """Folder for images of the worst false alarm and the worst miss of each kind, by model."""
    false_alarm_rate: float = 0.05
    """For the column of false alarms."""
    threads: int = 1
    """CPU threads."""


class Located(NamedTuple):
    """A query, its image and the camera at its pose."""

    query: Query
    image: Tensor  # [3, H, W]
    camera: Camera

    def mask(self) -> Tensor | None:
        """Where the defect is, [H, W]."""
        size = self.camera.width, self.camera.height
        return None if self.query.mask_path is None else read_mask(self.query.mask_path, size)


Variant = Callable[[Tensor, Camera], Tensor]  # query and camera to an anomaly map [H, W]
DEFAULT = "and scaled by the distance to the nearest view (default)"


def variants(model: ObjectRenderer, known: NormalModel) -> dict[str, Variant]:
    """The ways to make a map, from the plainest to the default."""
    rgb, lab = (make_features(name)[0] for name in ("rgb", "lab"))
    unit = known.mahalanobis
    place = replace(unit, near_weight=0.0, correction_weight=0.0, gloss="none")

    def difference(features: Any, image: Tensor, rendering: Tensor) -> Tensor:
        squared = features.difference(image[None], rendering[None])[0]
        return gaussian_blur(squared, features.sigma)

    def only_divided(image: Tensor, camera: Camera) -> Tensor:
        common = known.moments.common
        zeros = common.new_zeros(len(common), 3)
        shown = render_corrected(model, camera, Expectation(zeros, common, zeros[:, 0]), common)
        return place(compare(image, shown)[1], shown.maps)

    def scored(**changes: Any) -> Variant:
        scorer = NormalModelScorer(model, replace(known, **changes))
        return lambda image, camera: scorer(image, camera).anomaly_map

    def rendered(camera: Camera) -> Tensor:
        return model(camera).image.clamp(0, 1)

    flat, dull = ViewDistanceScale(), replace(unit, gloss="none")
    return {
        "RGB": lambda image, camera: difference(rgb, image, rendered(camera)),
        "CIELAB, 1 px tolerant": lambda image, camera: difference(lab, image, rendered(camera)),
        "corrected by the memory": lambda image, camera: difference(
            lab, image, predict(model, camera, known).image
        ),
        "divided by the covariance of the place": only_divided,
        "corrected and divided": scored(mahalanobis=place, distance_scale=flat),
        "and by that of the near views": scored(mahalanobis=dull, distance_scale=flat),
        "and by what each place reflects": scored(distance_scale=flat),
        DEFAULT: scored(),
    }


@torch.no_grad()
def ablation(path: Path, config: AblationConfig) -> dict[str, Any]:
    """Runs every variant on every query of a model; returns rows of figures. Raises InputError."""
    torch.set_num_threads(config.threads)
    opened = open_calibrated(path, config.false_alarm_rate, config.threads)
    truth = true_poses(opened.capture)
    rows = []
    for poses in ("true", "estimated") if truth else ("estimated",):
        queries = list(located(opened, truth if poses == "true" else None))
        for name, variant in variants(opened.scorer.model, opened.scorer.known).items():
            bar = tqdm(queries, desc=f"{name}, {poses} poses", unit="image")
            maps = [variant(each.image, each.camera) for each in bar]
            limit = opened.threshold if name == DEFAULT else None
            rows.append({"map": name, "poses": poses} | _figures(queries, maps, limit))
    if config.images is not None:
        _draw(config.images / path.name, opened, queries, maps)
    good = [
        float(found.max())
        for each, found in zip(queries, maps, strict=True)
        if each.query.is_anomalous is False
    ]
    held_out = geometric_mean(opened.held_out_scores)
    ratio = geometric_mean(good) / held_out if good else None
    return {"rows": rows, "good_over_held_out": ratio, "settings": opened.config["settings"]}


def located(opened: Calibrated, truth: dict[str, Tensor] | None) -> Iterator[Located]:
    """Every query at its true pose, or where `truth` is None at its estimated one."""
    for query in tqdm(opened.capture.queries, desc="poses", unit="image"):
        image, camera = opened.inspector.read(query.image_path), opened.inspector.camera
        if truth is None:
            pose = opened.inspector.locate(image[None])[0].world_to_camera
            yield Located(query, image, camera.at(pose))
        elif query.name in truth:
            yield Located(query, image, camera.at(truth[query.name]))


def _figures(
    queries: Sequence[Located], maps: Sequence[Tensor], threshold: float | None
) -> dict[str, Any]:
    """Figures of one way to make maps [H, W], scored by their maxima."""
    scores = [float(found.max()) for found in maps]
    masks = [each.mask() for each in queries]
    figures = evaluate(
        scores,
        [each.query.is_anomalous for each in queries],
        [each.query.label for each in queries],
        PixelStatistics.of(
            [found.numpy() for found in maps],
            [None if mask is None else mask.numpy() for mask in masks],
            [each.query.is_anomalous for each in queries],
            [each.query.label for each in queries],
        ),
    )
    good = [s for s, q in zip(scores, queries, strict=True) if q.query.is_anomalous is False]
    return {
        "image_auroc": figures["image"]["auroc"],
        "kinds": {kind: f["image"]["auroc"] for kind, f in figures["kinds"].items()},
        "pixel_auroc": figures["pixel"]["auroc"],
        "aupro": figures["pixel"]["aupro_0.3"],
        "aupro_0.05": figures["pixel"]["aupro_0.05"],
        "false_alarms": None if threshold is None else sum(s > threshold for s in good),
        "n_good": len(good),
    }


def _draw(
    folder: Path, opened: Calibrated, queries: Sequence[Located], maps: Sequence[Tensor]
) -> None:
    """The good image with the highest score, and of each kind the defect with the lowest."""
    worst: dict[str, tuple[float, Located]] = {}
    for each, found in zip(queries, maps, strict=True):
        is_good = each.query.is_anomalous is False
        badness = float(found.max()) * (1 if is_good else -1)
        name = "false_alarm" if is_good else f"miss_{each.query.label}"
        if name not in worst or badness > worst[name][0]:
            worst[name] = badness, each
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, each) in worst.items():
        rendering, found, *_ = opened.scorer(each.image, each.camera)
        flagged, scale = found > opened.threshold, 2.0 * opened.threshold
        drawn = overlay(each.image, rendering, found, scale, each.mask(), flagged)
        (folder / f"{name}.jpg").write_bytes(encode_jpeg(drawn))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    kinds = list(rows[0]["kinds"])
    head = ["map", "poses", "image AUROC", *kinds, "pixel AUROC", "AUPRO 0.3", "AUPRO 0.05",
            "false alarms"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        numbers = [row["image_auroc"], *row["kinds"].values(), row["pixel_auroc"], row["aupro"],
                   row["aupro_0.05"]]  # fmt: skip
        alarms = "" if row["false_alarms"] is None else f"{row['false_alarms']} of {row['n_good']}"
        cells = [row["map"], row["poses"], *(f"{number:.4f}" for number in numbers), alarms]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(config: AblationConfig) -> None:
    """Measures all models, prints the figures and writes them where that is asked for."""
    found = {str(path): ablation(path, config) for path in config.model}
    if config.json is not None:
        write_json(config.json, {"models": found, **provenance()})
    for name, figures in found.items():
        print(f"{name}\n\n{table(figures['rows'])}\n")
        if figures["good_over_held_out"] is not None:
            print(
                f"good queries score {figures['good_over_held_out']:.2f} times what held-out views "
                "score (geometric means; 1: the threshold fits)\n"
            )


if __name__ == "__main__":
    run(lambda: main(tyro.cli(AblationConfig, description=__doc__)))
