"""results.json: one entry per image, and what they come to."""

import math
import statistics
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from anomaly import Calibration, Threshold, evaluate
from pose_estimation import rotation_error, translation_error
from scene import Query, World

from .inspector import Inspection

STAGES = ("coarse", "refine", "score", "total")
_FOUND_DEGREES, _FOUND_UNITS = 1.0, 0.02  # a pose within both counts in `n_within_1deg`


class Results:
    """Gathers the entries of a run; figures that cannot be computed are None."""

    def __init__(
        self,
        threshold: Threshold | None,
        true_poses: dict[str, Tensor],  # by query name, in the frame of the files
        calibration: Calibration | None = None,  # None: scores have no probability
        world: World | None = None,  # of the model's poses and places; None: that of the files
    ) -> None:
        self.threshold, self.true_poses, self.calibration = threshold, true_poses, calibration
        self.world = world or World()
        self.entries: list[dict[str, Any]] = []
        self.queries: list[Query] = []
        self._maps: list[Any] = []
        self._masks: list[Any] = []

    def add(
        self,
        query: Query,
        found: Inspection,
        mask: NDArray[np.bool_] | None,  # [H, W], ground truth
        map_path: str,
        regions: list[Any],
    ) -> None:
        """Adds one judged image. Without a trustworthy pose there is no verdict."""
        flagged = None
        if self.threshold is not None and found.pose.pose_ok is not False:
            flagged = found.score > self.threshold.value
        chance = None
        if self.calibration is not None and found.pose.pose_ok is not False:
            chance = float(self.calibration.tail_probability(found.score))
        pose = self.world.into_files(found.pose.world_to_camera)
        entry = self._entry(query) | {
            "score": found.score,
            "tail_probability": chance,
            "is_anomalous": flagged,
            "world_to_camera": pose.tolist(),
            "pose_ok": found.pose.pose_ok,
            "pose_loss": found.pose.loss,
            "map": map_path,
            "regions": regions,
            "seconds": {stage: round(found.seconds[stage], 4) for stage in STAGES},
        }
        truth = self.true_poses.get(query.name)
        if truth is not None:
            entry["rotation_error_deg"] = math.degrees(float(rotation_error(pose, truth)))
            entry["translation_error"] = float(translation_error(pose, truth))
        self._keep(query, entry, found.anomaly_map.cpu().numpy(), mask)

    def add_failure(self, query: Query, error: str) -> None:
        """Adds an image that could not be judged."""
        self._keep(query, self._entry(query) | {"error": error}, None, None)

    def failures(self) -> list[str]:
        """One sentence per image that could not be judged."""
        return [entry["error"] for entry in self.entries if entry["error"] is not None]

    def document(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The content of results.json (docs/formats.md)."""
        return {"summary": self._summary(), "settings": settings, "images": self.entries}

    def evaluation(self) -> dict[str, Any]:
        """Figures over images, pixels and kinds of defect (anomaly.evaluate)."""
        judged = [i for i, entry in enumerate(self.entries) if entry["score"] is not None]
        return evaluate(
            [self.entries[i]["score"] for i in judged],
            [self.queries[i].is_anomalous for i in judged],
            [self.queries[i].label for i in judged],
            [self._maps[i] for i in judged],
            [self._masks[i] for i in judged],
        )

    def _keep(self, query: Query, entry: dict[str, Any], anomaly_map: Any, mask: Any) -> None:
        self.queries.append(query)
        self.entries.append(entry)
        self._maps.append(anomaly_map)
        self._masks.append(mask)

    def _entry(self, query: Query) -> dict[str, Any]:
        names = (
            "score", "tail_probability", "is_anomalous", "world_to_camera", "pose_ok",
            "pose_loss", "map", "regions", "seconds", "rotation_error_deg", "translation_error",
                 "error")  # fmt: skip
        path = {"path": str(query.image_path), "name": query.name, "label": query.label}
        return path | dict.fromkeys(names)

    def _summary(self) -> dict[str, Any]:
        figures = self.evaluation()
        good = [
            entry["is_anomalous"]
            for query, entry in zip(self.queries, self.entries, strict=True)
            if query.is_anomalous is False and entry["is_anomalous"] is not None
        ]
        summary = {
            "image_auroc": figures["image"]["auroc"],
            "pixel_auroc": figures["pixel"]["auroc"],
            "aupro": figures["pixel"]["aupro_0.3"],
            "aupro_0.05": figures["pixel"]["aupro_0.05"],
            "n_images": len(self.entries),
            "n_failed": sum(e["score"] is None or e["pose_ok"] is False for e in self.entries),
            "threshold": None if self.threshold is None else self.threshold.value,
            "threshold_words": None if self.threshold is None else self.threshold.words,
            "n_good": len(good),
            "n_false_alarms": sum(good) if good else None,
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
        return {
            "rotation_deg_median": statistics.median(degrees) if degrees else None,
            "rotation_deg_max": max(degrees, default=None),
            "rotation_deg_mean": statistics.fmean(degrees) if degrees else None,
            "translation_median": statistics.median(units) if units else None,
            "translation_max": max(units, default=None),
            "translation_mean": statistics.fmean(units) if units else None,
            "n_within_1deg": sum(degree <= _FOUND_DEGREES for degree in degrees),
            "n_within_1deg_and_0.02": sum(
                d <= _FOUND_DEGREES and u <= _FOUND_UNITS * self.world.unit
                for d, u in zip(degrees, units, strict=True)
            ),
        }

    def _seconds(self) -> dict[str, float | None]:
        spent = [entry["seconds"] for entry in self.entries if entry["seconds"] is not None]
        return {
            stage: statistics.median(s[stage] for s in spent) if spent else None for stage in STAGES
        }
