"""results.json, results.csv and maps/: one entry per image, and what they come to."""

import csv
import io
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anomaly import PixelStatistics, Threshold, evaluate
from anomaly.metrics import UNNAMED
from pose_estimation import rotation_error, translation_error
from scene import Query, World, atomic_write, mask_doubt, write_json

from .inspector import Inspection

STAGES = ("coarse", "refine", "score", "total")
COMPLETE, PARTIAL = "results.json", "results_until_interrupted.json"
_FOUND_DEGREES, _FOUND_UNITS = 1.0, 0.02  # a pose within both counts as found
_ENTRY = (
    "score", "tail_probability", "is_anomalous", "world_to_camera", "pose_ok", "pose_loss", "map",
    "regions", "seconds", "rotation_error_deg", "translation_error", "error",
    "note",
)  # fmt: skip
_COLUMNS = (
    "path", "name", "label", "score", "tail_probability", "is_anomalous", "pose_ok", "pose_loss",
    "rotation_error_deg", "translation_error", "map", "error", "note",
)  # fmt: skip


class Results:
    """Gathers the entries of a run and writes them; figures that cannot be computed are None."""

    def __init__(
        self,
        root: Path,
        threshold: Threshold | None,
        true_poses: dict[str, Tensor],  # by query name, in the frame of the files
        world: World | None = None,  # of the model; None: that of the files
    ) -> None:
        self.root, self.threshold, self.true_poses = root, threshold, true_poses
        self.world = world or World()
        self.entries: list[dict[str, Any]] = []
        self.queries: list[Query] = []
        self._pixels = PixelStatistics()
        for name in (COMPLETE, PARTIAL):  # of an earlier run into the same folder
            (root / name).unlink(missing_ok=True)

    def add(
        self,
        query: Query,
        found: Inspection,
        mask: NDArray[np.bool_] | None = None,  # [H, W], ground truth
    ) -> None:
        """Adds one image and writes its map (32-bit float TIFF)."""
        entry: dict[str, Any] = {
            "path": str(query.image_path),
            "name": query.name,
            "label": query.label,
        }
        entry |= dict.fromkeys(_ENTRY)
        self.queries.append(query)
        self.entries.append(entry)
        if found.anomaly_map is None or found.pose is None or found.world_to_camera is None:
            entry["error"] = found.error
            return
        values = found.anomaly_map.numpy().astype(np.float32)
        entry |= {
            "score": found.score,
            "tail_probability": found.tail_probability,
            "is_anomalous": found.is_anomalous,
            "world_to_camera": found.world_to_camera.tolist(),
            "pose_ok": found.pose.pose_ok,
            "pose_loss": found.pose.loss,
            "map": f"maps/{query.name}.tiff",
            "regions": found.regions,
            "seconds": {stage: round(found.seconds[stage], 4) for stage in STAGES},
        }
        with atomic_write(self.root / entry["map"]) as file:
            Image.fromarray(values).save(file, format="TIFF")
        truth = self.true_poses.get(query.name)
        if truth is not None:
            pose = found.world_to_camera
            entry["rotation_error_deg"] = math.degrees(float(rotation_error(pose, truth)))
            entry["translation_error"] = float(translation_error(pose, truth))
        if mask is not None:
            entry["note"] = mask_doubt(mask, query.is_anomalous) or None
        if query.is_anomalous is False:
            self._pixels.add(values, None)
        elif query.is_anomalous and mask is not None and mask.any():
            self._pixels.add(values, mask, query.label or UNNAMED)

    def failures(self) -> list[str]:
        """One sentence per image that could not be inspected."""
        return [entry["error"] for entry in self.entries if entry["error"] is not None]

    def write(self, settings: dict[str, Any], complete: bool = True) -> dict[str, Any]:
        """Writes results.csv and results.json (another name unless `complete`); its content."""
        document = {"summary": self.summary(), "settings": settings, "images": self.entries}
        with atomic_write(self.root / "results.csv", "w") as file:
            file.write(_table(self.entries))
        write_json(self.root / (COMPLETE if complete else PARTIAL), document)
        return document

    def summary(self) -> dict[str, Any]:
        """Figures over images, pixels, kinds of defect, poses and seconds (docs/formats.md)."""
        scored = [i for i, entry in enumerate(self.entries) if entry["score"] is not None]
        figures = evaluate(
            [self.entries[i]["score"] for i in scored],
            [self.queries[i].is_anomalous for i in scored],
            [self.queries[i].label for i in scored],
            self._pixels,
        )
        verdicts: dict[bool, list[bool]] = {False: [], True: []}
        for query, entry in zip(self.queries, self.entries, strict=True):
            if query.is_anomalous is not None and entry["is_anomalous"] is not None:
                verdicts[query.is_anomalous].append(entry["is_anomalous"])
        good, defective = verdicts[False], verdicts[True]
        summary = {
            "image_auroc": figures["image"]["auroc"],
            "pixel_auroc": figures["pixel"]["auroc"],
            "aupro": figures["pixel"]["aupro_0.3"],
            "aupro_0.05": figures["pixel"]["aupro_0.05"],
            "n_images": len(self.entries),
            "n_failed": sum(e["score"] is None or e["pose_ok"] is False for e in self.entries),
            "threshold": None if self.threshold is None else self.threshold.value,
            "threshold_message": None if self.threshold is None else self.threshold.message,
            "n_good": len(good),
            "n_false_alarms": sum(good) if good else None,
            "n_defective": len(defective),
            "n_defects_flagged": sum(defective) if defective else None,
            "kinds": {
                kind: {
                    "n_images": values["n_images"],
                    "image_auroc": values["image"]["auroc"],
                    "pixel_auroc": values["pixel"]["auroc"],
                    "aupro": values["pixel"]["aupro_0.3"],
                }
                for kind, values in figures["kinds"].items()
            },
            "image": figures["image"],
            "pixel": figures["pixel"],
        }
        if self.true_poses:
            summary["pose"] = self._pose_summary()
        summary["seconds"] = self._seconds()
        return summary

    def _pose_summary(self) -> dict[str, Any]:
        known = [e for e in self.entries if e["rotation_error_deg"] is not None]
        degrees = [entry["rotation_error_deg"] for entry in known]
        units = [entry["translation_error"] for entry in known]
        near = [unit <= _FOUND_UNITS * self.world.unit for unit in units]
        found = [degree <= _FOUND_DEGREES for degree in degrees]
        return {
            "rotation_deg_median": statistics.median(degrees) if degrees else None,
            "rotation_deg_max": max(degrees, default=None),
            "rotation_deg_mean": statistics.fmean(degrees) if degrees else None,
            "translation_median": statistics.median(units) if units else None,
            "translation_max": max(units, default=None),
            "translation_mean": statistics.fmean(units) if units else None,
            "n_within_1deg": sum(found),
            "n_within_1deg_and_0.02": sum(a and b for a, b in zip(found, near, strict=True)),
        }

    def _seconds(self) -> dict[str, float | None]:
        spent = [entry["seconds"] for entry in self.entries if entry["seconds"] is not None]
        return {
            stage: statistics.median(s[stage] for s in spent) if spent else None for stage in STAGES
        }


def _table(entries: list[dict[str, Any]]) -> str:
    """results.csv: one line per image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"seconds_{stage}" for stage in STAGES)])
    for entry in entries:
        seconds = entry["seconds"] or {}
        writer.writerow(
            [*(_plain(entry[name]) for name in _COLUMNS), *(seconds.get(stage) for stage in STAGES)]
        )
    return text.getvalue()


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula, and that does not end its line."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
