"""Several images of one object: which belong together, and what they say together.

The maps are read back from maps/, so that no more than one group's evidence ([k, N] float16) is in
memory, and a run that went on where it was groups all of its images.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anomaly import ScoreDistribution, Threshold, coverage, image_figures, merge_places, project
from scene import InputError, Query, atomic_write

from .inspector import Inspector
from .object_calibration import ObjectCalibration
from .results import plain_cell

_REACH = 0.12  # of the object's radius: flagged Gaussians so near to each other are one region
_AGREES = 0.01  # p-value somewhere in a region below which on an image is named as showing it
_COLUMNS = (
    "name", "label", "n_images", "n_refused", "score", "threshold", "tail_probability",
    "is_anomalous", "coverage", "best_image", "note",
)  # fmt: skip


def group_names(queries: Sequence[Query], group_by: str) -> list[str | None]:
    """The object that each image shows; None for one that belongs to none.

    `folder`: the images of a folder. Else a regular expression with one group, searched in the
    name ("Burrs/7_2"): what the group matches is the object's name.
    Raises InputError for another expression, or one that matches no name.
    """
    if group_by == "folder":
        return [_folder(query) for query in queries]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise InputError(f"--group-by '{group_by}' is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise InputError(
            f"--group-by '{group_by}' has {pattern.groups} groups: put one pair of brackets around "
            "what names the object, as in '(.*)_' for Burrs/7_2, or give 'folder'"
        )
    found = [pattern.search(query.name) for query in queries]
    names = [None if match is None else match.group(1) or None for match in found]
    if not any(names):
        raise InputError(
            f"--group-by '{group_by}' matches none of the {len(queries)} names (the first is "
            f"{queries[0].name}): give 'folder' or another expression"
        )
    return names


def _folder(query: Query) -> str:
    parent = PurePosixPath(query.name).parent
    return query.image_path.parent.name if parent == PurePosixPath(".") else str(parent)


@dataclass
class ObjectInspector:
    """Gathers the images of each object; the scores of good objects are kept by their number."""

    inspector: Inspector
    calibration: ObjectCalibration
    root: Path  # of the run, with maps/
    _known: dict[int, tuple[ScoreDistribution, Threshold] | None] = field(default_factory=dict)

    def inspect(
        self,
        name: str,
        queries: Sequence[Query],
        entries: Sequence[dict[str, Any]],  # of results.json, one for each query
    ) -> dict[str, Any]:
        """The object's entry of results.json (docs/formats.md)."""
        used = [e for e in entries if e["score"] is not None and e["pose_ok"] is not False]
        refused = [
            {"name": e["name"], "reason": e["error"] or "the pose is not trusted"}
            for e in entries if e["score"] is None or e["pose_ok"] is False
        ]  # fmt: skip
        labels = sorted({query.label for query in queries if query.label is not None})
        found: dict[str, Any] = {
            "name": name,
            "label": labels[0] if len(labels) == 1 else None,
            "images": [entry["name"] for entry in used],
            "refused": refused,
            **dict.fromkeys(("score", "threshold", "threshold_message", "tail_probability")),
            **dict.fromkeys(("is_anomalous", "coverage", "best_image", "note")),
            "regions": [],
        }
        if len(labels) > 1:
            found["note"] = f"its images have several labels: {', '.join(labels)}"
        if not used:
            found["note"] = "no image of it has a trusted pose"
            return found
        best = max(used, key=lambda entry: entry["score"])
        evidence = torch.stack([self._evidence(entry) for entry in used])
        found["best_image"] = best["name"]
        found["coverage"] = coverage(evidence, self.calibration.areas)
        return found | (_of_one(best, self.inspector) if len(used) == 1 else
                        self._of_several(used, evidence))  # fmt: skip

    def _evidence(self, entry: dict[str, Any]) -> Tensor:
        """The map of an image on the Gaussians, [N]."""
        model = self.inspector.model
        with Image.open(self.root / entry["map"]) as file:
            values = torch.from_numpy(np.array(file, np.float32)).to(model.gaussians.means)
        pose = _pose(entry)
        camera = self.inspector.camera.at(self.inspector.world.into_model(pose))
        return project(model, camera, values, self.calibration.areas.to(values))

    def _of_several(self, used: Sequence[dict[str, Any]], evidence: Tensor) -> dict[str, Any]:
        """Score, verdict and regions of an object in at least two images."""
        count, rotations = len(used), torch.stack([_pose(entry)[:3, :3] for entry in used])
        places = self.calibration.places(evidence, rotations)
        score = float(places.nan_to_num(nan=0.0).max())
        known = self._known_of(count)
        if known is None:
            views = len(self.calibration.held_out)
            note = f"no verdict: {views} held-out views are too few for groups of {count} images"
            return {"score": score, "note": note}
        scores, threshold = known
        return {
            "score": score,
            "threshold": threshold.value,
            "threshold_message": threshold.message,
            "tail_probability": self.calibration.tail_probability(scores, count, score),
            "is_anomalous": score > threshold.value,
            "regions": self._regions(used, evidence, places, threshold.value),
        }

    def _known_of(self, count: int) -> tuple[ScoreDistribution, Threshold] | None:
        """What good objects score in so many images; None where too few views were held out."""
        if count not in self._known:
            scores, rate = self.calibration.scores(count), self.inspector.false_alarm_rate
            self._known[count] = (
                None if scores is None
                else (scores, self.calibration.threshold(scores, count, rate))
            )  # fmt: skip
        return self._known[count]

    def _regions(
        self, used: Sequence[dict[str, Any]], evidence: Tensor, places: Tensor, limit: float
    ) -> list[dict[str, Any]]:
        """Flagged regions with their place and size in the frame and unit of the capture."""
        means, world = self.inspector.model.gaussians.means.detach().cpu(), self.inspector.world
        radius = float((means - means.mean(dim=0)).norm(dim=1).square().mean().sqrt())
        regions = []
        for place in merge_places(places, means, limit, _REACH * radius):
            inside = self.calibration.tail.surprise(evidence[:, place.members])
            agree = (inside.nan_to_num(nan=0.0).amax(dim=1) >= -math.log(_AGREES)).tolist()
            regions.append({
                "peak": float(places[place.peak]),
                "position": world.points_into_files(place.position).tolist(),
                "extent": place.extent * world.unit,
                "n_gaussians": len(place.members),
                "n_seen": int((~inside.isnan()).any(dim=1).sum()),
                "images": [e["name"] for e, yes in zip(used, agree, strict=True) if yes],
            })  # fmt: skip
        return regions


def _pose(entry: dict[str, Any]) -> Tensor:
    """World to camera [4, 4] in the frame of the files."""
    return torch.tensor(entry["world_to_camera"], dtype=torch.float64)


def _of_one(entry: dict[str, Any], inspector: Inspector) -> dict[str, Any]:
    """An object in one image has that image's score, verdict and regions."""
    threshold = inspector.threshold
    regions = [
        {"peak": r["peak"], "position": r["position"], "images": [entry["name"]], "n_seen": 1}
        | dict.fromkeys(("extent", "n_gaussians"))
        for r in entry["regions"]
    ]
    return {
        "score": entry["score"],
        "threshold": None if threshold is None else threshold.value,
        "threshold_message": None if threshold is None else threshold.message,
        "tail_probability": entry["tail_probability"],
        "is_anomalous": entry["is_anomalous"],
        "regions": regions,
    }


def inspect_objects(
    objects: ObjectInspector,
    names: Sequence[str | None],  # of the object that each image shows
    queries: Sequence[Query],
    entries: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """`objects` and `object_summary` of results.json; writes objects.csv."""
    members: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        if name is not None:
            members.setdefault(name, []).append(number)
    found, truth = [], []
    for name, numbers in members.items():
        own = [queries[number] for number in numbers]
        found.append(objects.inspect(name, own, [entries[number] for number in numbers]))
        labels = {query.is_anomalous for query in own}
        truth.append(True if True in labels else None if None in labels else False)
    with atomic_write(objects.root / "objects.csv", "w") as file:
        file.write(_table(found))
    alone = [query.name for query, name in zip(queries, names, strict=True) if name is None]
    return {"objects": found, "object_summary": object_summary(found, truth) | {"alone": alone}}


def object_summary(
    objects: Sequence[dict[str, Any]],
    truth: Sequence[bool | None],  # whether each is defective; None: not labelled
) -> dict[str, Any]:
    """Figures over objects; their scores are compared as multiples of their thresholds.

    Objects in another number of images have another scale, hence another threshold.
    """
    ratios, defective = [], []
    for each, label in zip(objects, truth, strict=True):
        if label is not None and each["threshold"]:
            ratios.append(each["score"] / each["threshold"])
            defective.append(label)
    figures = image_figures(ratios, defective)
    verdicts: dict[bool, list[bool]] = {False: [], True: []}
    for each, label in zip(objects, truth, strict=True):
        if label is not None and each["is_anomalous"] is not None:
            verdicts[label].append(each["is_anomalous"])
    return {
        "object_auroc": figures["auroc"],
        "n_objects": len(objects),
        "n_flagged": sum(each["is_anomalous"] is True for each in objects),
        "n_without_verdict": sum(each["is_anomalous"] is None for each in objects),
        "n_good": len(verdicts[False]),
        "n_false_alarms": sum(verdicts[False]) if verdicts[False] else None,
        "n_defective": len(verdicts[True]),
        "n_defects_flagged": sum(verdicts[True]) if verdicts[True] else None,
    }


def _table(objects: Sequence[dict[str, Any]]) -> str:
    """objects.csv: one line per object."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for each in objects:
        row = each | {"n_images": len(each["images"]), "n_refused": len(each["refused"])}
        writer.writerow([plain_cell(row[column]) for column in _COLUMNS])
    return text.getvalue()
