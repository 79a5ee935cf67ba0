"""What several images of one object are worth: groups of k from labelled queries.

    python -m benchmarks.synthetic data/gears --object gears --gloss 0.85 --views-per-defect 9
    python train.py -s data/gears -m out/gears
    python -m benchmarks.groups --model out/gears --json out/groups.json

The capture needs several views of each object in test/ (names such as Burrs/7_2). Rows: the number
of images; columns: AUROC over objects, share flagged at the stated rate, for the evidence on the
Gaussians and for two baselines that know no places, the highest and the mean log score. With
`--unseen` the defect cannot be seen in that share of a defective object's further images, which
then are images of good objects. The labels are used for scoring alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor

from anomaly import image_figures, project
from pipeline.command_line import run
from pipeline.groups import group_names
from pipeline.model_folder import ModelFolder, provenance
from pipeline.object_calibration import ObjectCalibration, Score, calibrate_objects
from scene import InputError, true_poses, write_json

from .anomaly import located
from .calibrated import Calibrated, open_calibrated

OURS = "evidence on the Gaussians"


@dataclass(frozen=True)
class GroupsConfig:
    """Trained models, the groups that are drawn, and where the figures go."""

    model: tuple[Path, ...]
    """Model folders of train.py, trained with held-out views."""
    group_by: str = "(.*)_"
    """What names the object, as detect.py takes it."""
    images: tuple[int, ...] = (1, 3, 5, 9)
    """Numbers of images in a group."""
    draws: int = 4
    """Groups drawn of each object, where it has more images than a group."""
    unseen: float = 0.0
    """Chance that an image after the first of a defective object does not see the defect."""
    poses: Literal["true", "estimated"] = "estimated"
    """Of the queries."""
    false_alarm_rate: float = 0.01
    """Of the thresholds."""
    json: Path | None = None
    """File for the figures."""
    threads: int = 1
    """CPU threads."""


class Queries(NamedTuple):
    """What every query says."""

    evidence: Tensor  # [M, N]
    rotations: Tensor  # [M, 3, 3] world to camera
    scores: list[float]  # [M] of single images
    objects: dict[str, list[int]]  # queries by object
    defective: dict[str, bool]


def read_queries(
    opened: Calibrated, calibration: ObjectCalibration, config: GroupsConfig
) -> Queries:
    """Inspects every query. Raises InputError where objects are not labelled."""
    truth = true_poses(opened.capture) if config.poses == "true" else None
    evidence, rotations, scores = [], [], []
    for each in located(opened, truth):
        found = opened.scorer(each.image, each.camera)
        scores.append(float(found.score))
        rotations.append(each.camera.world_to_camera[:3, :3])
        model = opened.scorer.model
        evidence.append(project(model, each.camera, found.anomaly_map, calibration.areas))
    queries = opened.capture.queries
    objects: dict[str, list[int]] = {}
    for number, name in enumerate(group_names(queries, config.group_by)):
        if name is not None:
            objects.setdefault(name, []).append(number)
    defective = {name: bool(queries[own[0]].is_anomalous) for name, own in objects.items()}
    if len(set(defective.values())) < 2 or len(scores) < len(queries):
        raise InputError(
            f"'{opened.capture.root}' needs good and defective objects in test/, "
            "each query with a pose: make it with python -m benchmarks.synthetic"
        )
    return Queries(torch.stack(evidence), torch.stack(rotations), scores, objects, defective)


def draw(queries: Queries, count: int, config: GroupsConfig) -> tuple[list[list[int]], list[bool]]:
    """Groups of `count` images of one object, and whether the object is defective."""
    random = np.random.default_rng(count)
    good = [i for name, own in queries.objects.items() if not queries.defective[name] for i in own]
    groups, truth = [], []
    for name, own in queries.objects.items():
        draws = 0 if len(own) < count else 1 if len(own) == count else config.draws
        for _ in range(draws):
            group = random.permutation(own)[:count].tolist()
            for place in range(1, count) if queries.defective[name] else ():
                if random.random() < config.unseen:
                    group[place] = int(random.choice(good))
            groups.append(group)
            truth.append(queries.defective[name])
    return groups, truth


def row(
    scores: Sequence[float], truth: Sequence[bool], threshold: float
) -> dict[str, float | int | None]:
    """The figures of one way to score groups."""
    values, defective = np.array(scores), np.array(truth)
    flagged = values > threshold
    return {
        "auroc": image_figures(values, defective)["auroc"],
        "defective_flagged": float(flagged[defective].mean()),
        "good_flagged": float(flagged[~defective].mean()),
        "any_threshold": float((values[defective] > values[~defective].max()).mean()),
        "n_good": int((~defective).sum()),
        "n_defective": int(defective.sum()),
    }


def _maxima(evidence: Tensor) -> NDArray[np.float64]:
    """The highest value of each image [k, N], [k]."""
    return np.maximum(evidence.nan_to_num(nan=0.0).amax(dim=1).double().numpy(), 1e-6)


@torch.no_grad()
def measure(path: Path, config: GroupsConfig) -> list[dict[str, Any]]:
    """The rows of one model. Raises InputError."""
    opened = open_calibrated(path, config.false_alarm_rate, config.threads)
    calibration = calibrate_objects(opened.inspector, ModelFolder(path))
    queries = read_queries(opened, calibration, config)
    ways: dict[str, Score] = {
        OURS: calibration.score,
        "highest score": lambda evidence, _: float(_maxima(evidence).max()),
        "mean log score": lambda evidence, _: float(np.exp(np.log(_maxima(evidence)).mean())),
    }
    rows, rate = [], config.false_alarm_rate
    for count in config.images:
        groups, truth = draw(queries, count, config)
        if count == 1:
            alone = [queries.scores[group[0]] for group in groups]
            rows.append({"images": 1, "score": "the image's"} | row(alone, truth, opened.threshold))
            continue
        for name, way in ways.items():
            good = calibration.scores(count, way)
            if good is None or len(set(truth)) < 2:
                print(f"{path}: too few views for groups of {count}: left out")
                break
            limit = (
                calibration.threshold(good, count, rate) if name == OURS else good.threshold(rate)
            ).value
            found = [way(queries.evidence[group], queries.rotations[group]) for group in groups]
            rows.append({"images": count, "score": name} | row(found, truth, limit))
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| images | score | AUROC | defective flagged | by any threshold without a false alarm | "
        "good flagged |",
        "|---|---|---|---|---|---|",
    ]
    for each in rows:
        share, best = each["defective_flagged"], each["any_threshold"]
        lines.append(
            f"| {each['images']} | {each['score']} | {each['auroc']:.3f} | {share:.0%} of "
            f"{each['n_defective']} | {best:.0%} | {each['good_flagged']:.0%} of "
            f"{each['n_good']} |"
        )
    return "\n".join(lines)


def main(config: GroupsConfig) -> None:
    """Measures all models, prints the figures and writes them where that is asked for."""
    found = {}
    for path in config.model:
        found[str(path)] = measure(path, config)
        print(f"{path}\n\n{table(found[str(path)])}\n", flush=True)
    if config.json is not None:
        settings = {"unseen": config.unseen, "poses": config.poses, "draws": config.draws}
        write_json(config.json, {"models": found, "settings": settings, **provenance()})


if __name__ == "__main__":
    run(lambda: main(tyro.cli(GroupsConfig, description=__doc__)))
