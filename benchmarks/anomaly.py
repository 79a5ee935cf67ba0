"""What each part of the anomaly map is worth: an ablation over objects' labelled queries.

    python -m benchmarks.anomaly --model out/brick_dog out/brick_parrot --json out/ablation.json \\
        --pictures out/worst

Rows: features, correction by the residual memory, division by what is normal. Columns: image AUROC,
pixel AUROC, AUPRO (0.3 and 0.05), false alarms on good images at the stated rate; at the true poses
(where the data set has them) and at the estimated ones. The labels are used for scoring alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from anomaly import Expectation, Features, GapLevel, evaluate, make_features
from anomaly.filters import gaussian_blur
from anomaly.normal_model import Normality, compare, corrected, predict
from anomaly.scoring import CalibratedScorer
from gaussian_renderer.object_renderer import ObjectRenderer
from pipeline.command_line import run
from pipeline.model_folder import ModelFolder, provenance
from pipeline.open_model import OpenModel, Parts, open_model
from pipeline.presets import DETECTION
from pose_estimation import PoseSettings
from report import encode_jpeg, overlay
from scene import Camera, InputError, Query, read_capture, read_mask, true_poses, write_json


@dataclass(frozen=True)
class AblationConfig:
    """Trained models and where the figures go."""

    model: tuple[Path, ...]
    """Model folders of train.py, trained with views kept out."""
    json: Path | None = None
    """File for the figures."""
    pictures: Path | None = None
    """Folder for pictures of the worst false alarm and the worst miss of each kind, by model."""
    false_alarm_rate: float = 0.05
    """For the column of false alarms."""
    threads: int = 1
    """CPU threads."""


Variant = Callable[[Tensor, Camera], Tensor]  # query and camera to an anomaly map


def variants(model: ObjectRenderer, known: Normality) -> dict[str, Variant]:
    """The ways to make a map, from the plainest to the default."""
    rgb, _ = make_features("rgb")
    lab, _ = make_features("classical")
    scorer = CalibratedScorer(model, known)
    place = replace(known.standardisation, near_weight=0.0, correction_weight=0.0, gloss="none")
    dull = replace(known.standardisation, gloss="none")

    def raw(features: Features) -> Variant:
        return lambda image, camera: _smoothed(features, image, model(camera).image.clamp(0, 1))

    def only_corrected(image: Tensor, camera: Camera) -> Tensor:
        return _smoothed(lab, image, predict(model, camera, known).image)

    def only_divided(image: Tensor, camera: Camera) -> Tensor:
        common = known.place.common
        zeros = common.new_zeros(len(common), 3)
        shown = corrected(model, camera, Expectation(zeros, common, zeros[:, 0]), common)
        return place(compare(image, shown)[1], shown.maps)

    def without_near(image: Tensor, camera: Camera) -> Tensor:
        plain = replace(known, standardisation=place, level=GapLevel())
        return CalibratedScorer(model, plain)(image, camera)[1]

    def without_gloss(image: Tensor, camera: Camera) -> Tensor:
        plain = replace(known, standardisation=dull, level=GapLevel())
        return CalibratedScorer(model, plain)(image, camera)[1]

    def without_level(image: Tensor, camera: Camera) -> Tensor:
        return CalibratedScorer(model, replace(known, level=GapLevel()))(image, camera)[1]

    return {
        "RGB": raw(rgb),
        "CIELAB, 1 px tolerant": raw(lab),
        "corrected by the memory": only_corrected,
        "divided by the covariance of the place": only_divided,
        "corrected and divided": without_near,
        "and by that of the near views": without_gloss,
        "and by what each place mirrors": without_level,
        "and levelled by the gap between views (default)": lambda image, camera: scorer(
            image, camera
        )[1],
    }


def _smoothed(features: Features, image: Tensor, rendering: Tensor) -> Tensor:
    """Smoothed squared difference [H, W] of two images [3, H, W]."""
    return gaussian_blur(features.difference(image[None], rendering[None])[0], features.sigma)


def ablation(path: Path, config: AblationConfig) -> dict[str, Any]:
    """Runs every variant on every query of a model; returns rows of figures. Raises InputError."""
    torch.set_num_threads(config.threads)
    pose = PoseSettings(threads=config.threads)
    parts = Parts(DETECTION["default"], pose, None, config.false_alarm_rate)
    folder = ModelFolder(path)
    opened = open_model(folder, parts, torch.device("cpu"))
    scorer, limit = opened.inspector.scorer, opened.threshold(config.false_alarm_rate)
    calibration = opened.calibration
    if not isinstance(scorer, CalibratedScorer) or limit is None or calibration is None:
        raise InputError(f"'{path}' has no calibration: train it with views kept out")
    settings = folder.load_config()["settings"]
    capture = read_capture(settings["source"], settings["resolution"])
    ways = variants(scorer.model, scorer.normality)
    rows, maps = [], {}
    for poses in ("true", "estimated"):
        cameras = list(_cameras(opened, capture.queries, true_poses(capture), poses))
        if not cameras:
            continue
        for name, way in ways.items():
            found = []
            for query, camera in tqdm(cameras, desc=f"{name}, {poses} poses", unit="image"):
                image, _ = opened.inspector.read(query.image_path)
                with torch.no_grad():
                    found.append(way(image, camera).cpu())
            maps[name, poses] = found
            is_default = name.endswith("(default)")
            rows.append(_row(name, poses, cameras, found, limit.value if is_default else None))
    if config.pictures is not None:
        _draw(config.pictures / path.name, opened, cameras, found, limit.value)
    good = [
        float(each.max())
        for (query, _), each in zip(cameras, found, strict=True)
        if query.is_anomalous is False
    ]
    ratio = geometric_mean(good) / geometric_mean(calibration.scores) if good else None
    return {"rows": rows, "good_over_kept_out": ratio, "settings": settings}


def _cameras(
    opened: OpenModel, queries: tuple[Query, ...], truth: dict[str, Tensor], poses: str
) -> Iterator[tuple[Query, Camera]]:
    """Every query with the camera at its true or its estimated pose."""
    for query in tqdm(queries, desc=f"{poses} poses", unit="image"):
        image, camera = opened.inspector.read(query.image_path)
        if poses == "estimated":
            yield query, camera.at(opened.inspector.locate(image, camera).world_to_camera)
        elif query.name in truth:
            yield query, camera.at(truth[query.name])


def _row(
    name: str,
    poses: str,
    cameras: list[tuple[Query, Camera]],
    maps: list[Tensor],
    threshold: float | None,
) -> dict[str, Any]:
    queries = [query for query, _ in cameras]
    scores = [float(found.max()) for found in maps]
    masks = [
        None
        if query.mask_path is None
        else read_mask(query.mask_path, (camera.width, camera.height)).numpy()
        for query, camera in cameras
    ]
    figures = evaluate(
        scores,
        [query.is_anomalous for query in queries],
        [query.label for query in queries],
        [found.numpy() for found in maps],
        masks,
    )
    good = [s for s, query in zip(scores, queries, strict=True) if query.is_anomalous is False]
    return {
        "map": name,
        "poses": poses,
        "image_auroc": figures["image"]["auroc"],
        "kinds": {kind: f["image"]["auroc"] for kind, f in figures["kinds"].items()},
        "pixel_auroc": figures["pixel"]["auroc"],
        "aupro": figures["pixel"]["aupro_0.3"],
        "aupro_0.05": figures["pixel"]["aupro_0.05"],
        "false_alarms": None if threshold is None else sum(s > threshold for s in good),
        "n_good": len(good),
    }


def _draw(
    folder: Path,
    opened: OpenModel,
    cameras: list[tuple[Query, Camera]],
    maps: list[Tensor],
    threshold: float,
) -> None:
    """The good image with the highest score, and of each kind the defect with the lowest."""
    worst: dict[str, int] = {}
    for index, (query, _) in enumerate(cameras):
        sign = 1 if query.is_anomalous is False else -1
        name = "false_alarm" if sign == 1 else f"miss_{query.label}"
        best = worst.get(name)
        if best is None or sign * maps[index].max() > sign * maps[best].max():
            worst[name] = index
    folder.mkdir(parents=True, exist_ok=True)
    for name, index in worst.items():
        query, camera = cameras[index]
        image, _ = opened.inspector.read(query.image_path)
        rendering, found, _ = opened.inspector.scorer(image, camera)
        size = (camera.width, camera.height)
        mask = None if query.mask_path is None else read_mask(query.mask_path, size)
        picture = overlay(image, rendering, found, opened.display_scale, mask, found > threshold)
        (folder / f"{name}.jpg").write_bytes(encode_jpeg(picture))


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


def _words(figures: dict[str, Any]) -> str:
    """The table of one model, and whether its threshold fits the queries."""
    ratio = figures["good_over_kept_out"]
    if ratio is None:
        return table(figures["rows"])
    return (
        f"{table(figures['rows'])}\n\ngood queries score {ratio:.2f} times what views kept out "
        "score (geometric means; 1: the threshold fits)"
    )


def main() -> None:
    """Command line."""

    def script() -> None:
        """Measures all models and prints what was asked for."""
        config = tyro.cli(AblationConfig, description=__doc__)
        found = {str(path): ablation(path, config) for path in config.model}
        if config.json is not None:
            write_json(config.json, {"models": found, **provenance()})
        for name, figures in found.items():
            print(f"{name}\n\n{_words(figures)}\n")

    run(script)


if __name__ == "__main__":
    main()
