"""results.json, results.csv and maps/: one entry per image, and what they come to."""

import csv
import functools
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anomaly import PixelStatistics, Threshold, evaluate, image_figures
from anomaly.metrics import UNNAMED
from pose_estimation import rotation_error, translation_error
from scene import (
    Distortion,
    InputError,
    Query,
    QueryLens,
    World,
    atomic_write,
    damage_named,
    file_name,
    mask_doubt,
    printable,
    read_mask,
    write_json,
)

from .inspector import Inspection
from .journal import Journal

STAGES = ("coarse", "refine", "score", "total")
COMPLETE, PARTIAL = "results.json", "results_until_interrupted.json"
_FOUND_DEGREES, _FOUND_UNITS = 1.0, 0.02  # a pose within both counts as found
_ENTRY = (
    "score", "tail_probability", "is_anomalous", "world_to_camera", "pose_ok", "pose_loss",
    "pose_ambiguous", "map", "regions", "seconds", "rotation_error_deg", "translation_error",
    "error", "note", "background", "not_inspected",
)  # fmt: skip
_COLUMNS = (
    "path", "name", "label", "score", "tail_probability", "is_anomalous", "pose_ok", "pose_loss",
    "rotation_error_deg", "translation_error", "map", "error", "note",
)  # fmt: skip

_EMPTY_MASK = mask_doubt(np.zeros((1, 1), bool), True)


def map_path(query: Query) -> str:
    """Where a run keeps the anomaly map of a query, relative to its folder."""
    return f"maps/{file_name(query.name)}.tiff"


def overlay_path(query: Query) -> str:
    """Where a run keeps what people look at, relative to its folder."""
    return f"overlays/{file_name(query.name)}.jpg"


def _read_pixels(
    path: Path, query: Query, lens: Distortion | QueryLens | None
) -> tuple[NDArray, NDArray | None]:
    """An anomaly map [H, W] and its mask, None for a good image.

    Raises InputError when one of them is gone or damaged.
    """
    with damage_named(path, "run detect.py again into another folder"), Image.open(path) as image:
        values = np.array(image, np.float32)
    if query.is_anomalous is False or query.mask_path is None:
        return values, None
    height, width = values.shape
    return values, read_mask(query.mask_path, (width, height), lens).numpy()


class Results:
    """Gathers the entries of a run and writes them; figures that cannot be computed are None.

    Maps are on the disk, where the figures over pixels read them back: what is kept of an image is
    its entry.
    """

    def __init__(
        self,
        root: Path,
        threshold: Threshold | None,
        true_poses: dict[str, Tensor],  # by query name, in the frame of the files
        world: World | None = None,  # of the model; None: that of the files
        journal: Journal | None = None,  # of the run, which makes entries survive a kill
        lens: Distortion | QueryLens | None = None,  # that maps are free of and masks are not
    ) -> None:
        self.root, self.threshold, self.true_poses = root, threshold, true_poses
        self.world = world or World()
        self.entries: list[dict[str, Any]] = []
        self.queries: list[Query] = []
        self.journal, self.lens = journal, lens
        for name in (COMPLETE, PARTIAL, "objects.csv"):  # of an earlier run into the same folder
            if (root / name).is_dir():
                raise InputError(f"'{root / name}' is a folder: choose another folder with -o")
            (root / name).unlink(missing_ok=True)

    def take_over(self, queries: Sequence[Query]) -> list[Query]:
        """Takes the entries that the journal holds; the queries that are left."""
        left = []
        for query in queries:
            files = (map_path(query), overlay_path(query))
            entry = None if self.journal is None else self.journal.take(query, files)
            if entry is None:
                left.append(query)
            else:
                self._keep(query, entry)
        return left

    def add(
        self,
        query: Query,
        found: Inspection,
        mask: NDArray[np.bool_] | None = None,  # [H, W], ground truth
    ) -> dict[str, Any]:
        """Adds one image, writes its map (32-bit float TIFF), and gives its entry."""
        entry: dict[str, Any] = {
            "path": printable(str(query.image_path)),
            "name": printable(query.name),
            "label": None if query.label is None else printable(query.label),
        }
        entry |= dict.fromkeys(_ENTRY)
        if found.anomaly_map is None or found.pose is None or found.world_to_camera is None:
            entry["error"] = found.error
        elif not math.isfinite(found.score or 0.0):
            entry["error"] = printable(f"'{found.path}' has no finite score: look at the image")
        else:
            entry |= self._found(query, found)
            values = found.anomaly_map.numpy().astype(np.float32)
            with atomic_write(self.root / entry["map"]) as file:
                Image.fromarray(values).save(file, format="TIFF")
            doubt = "" if mask is None else mask_doubt(mask, query.is_anomalous)
            entry["note"] = "; ".join(filter(None, (found.note, _ambiguity(found), doubt))) or None
        self._keep(query, entry)
        if self.journal is not None:
            self.journal.add(query, entry)
        return entry

    def _keep(self, query: Query, entry: dict[str, Any]) -> None:
        self.queries.append(query)
        self.entries.append(entry)

    def _found(self, query: Query, found: Inspection) -> dict[str, Any]:
        """What an entry says of an image that was inspected."""
        assert found.pose is not None
        assert found.world_to_camera is not None
        entry = {
            "score": found.score,
            "tail_probability": found.tail_probability,
            "is_anomalous": found.is_anomalous,
            "world_to_camera": found.world_to_camera.tolist(),
            "pose_ok": found.pose.pose_ok,
            "pose_loss": found.pose.loss,
            "pose_ambiguous": _others(found) or None,
            "map": map_path(query),
            "regions": found.regions,
            "seconds": {stage: round(found.seconds[stage], 4) for stage in STAGES},
            "background": printable(found.background) or None,
            "not_inspected": found.not_inspected,
        }
        truth = self.true_poses.get(query.name)
        if truth is not None:
            pose = found.world_to_camera
            entry["rotation_error_deg"] = math.degrees(float(rotation_error(pose, truth)))
            entry["translation_error"] = float(translation_error(pose, truth))
        return entry

    def in_order_of(self, queries: Sequence[Query]) -> None:
        """Puts the entries into the order of the queries."""
        places = {query.name: place for place, query in enumerate(queries)}
        pairs = sorted(
            zip(self.queries, self.entries, strict=True), key=lambda pair: places[pair[0].name]
        )
        self.queries = [query for query, _ in pairs]
        self.entries = [entry for _, entry in pairs]

    def _pixels(self, chosen: Sequence[int]) -> PixelStatistics:
        """Statistics of the maps of some images, each read when it is needed."""
        pixels = PixelStatistics()
        for number in chosen:
            query, entry = self.queries[number], self.entries[number]
            is_masked = query.mask_path is not None and _EMPTY_MASK not in (entry["note"] or "")
            read = functools.partial(_read_pixels, self.root / entry["map"], query, self.lens)
            if query.is_anomalous is False:
                pixels.add_later(read, None, has_mask=False)
            elif query.is_anomalous and is_masked:
                pixels.add_later(read, query.label or UNNAMED, has_mask=True)
        return pixels

    def failures(self) -> list[str]:
        """One sentence per image that could not be inspected."""
        return [entry["error"] for entry in self.entries if entry["error"] is not None]

    def write(
        self,
        settings: dict[str, Any],
        complete: bool = True,
        objects: dict[str, Any] | None = None,  # of groups.py
    ) -> dict[str, Any]:
        """Writes results.csv and results.json (another name unless `complete`); its content."""
        document = {"summary": self.summary(), "settings": settings, "images": self.entries}
        document |= objects or {}
        with atomic_write(self.root / "results.csv", "w") as file:
            file.write(_table(self.entries))
        write_json(self.root / (COMPLETE if complete else PARTIAL), document)
        return document

    def summary(self) -> dict[str, Any]:
        """Figures over images, pixels, kinds of defect, poses and seconds (docs/formats.md)."""
        scored = [i for i, entry in enumerate(self.entries) if entry["score"] is not None]
        located = [i for i in scored if self.entries[i]["pose_ok"] is not False]
        figures = evaluate(
            [self.entries[i]["score"] for i in located],
            [self.queries[i].is_anomalous for i in located],
            [self.queries[i].label for i in located],
            self._pixels(located),
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
            "n_failed": len(self.entries) - len(located),
            "n_poses_refused": len(scored) - len(located),
            "image_auroc_with_refused": self._auroc(scored),
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

    def _auroc(self, chosen: Sequence[int]) -> float | None:
        """Image AUROC of the labelled ones among some images."""
        known = [i for i in chosen if self.queries[i].is_anomalous is not None]
        truth = [bool(self.queries[i].is_anomalous) for i in known]
        return image_figures([self.entries[i]["score"] for i in known], truth)["auroc"]

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


def _others(found: Inspection) -> list[dict[str, Any]]:
    """The other poses that fit as well, as JSON values."""
    return [
        {
            "world_to_camera": other.world_to_camera.tolist(),
            "score": other.score,
            "is_anomalous": other.is_anomalous,
        }
        for other in found.other_poses
    ]


def _ambiguity(found: Inspection) -> str:
    """What to say of an image that fits several poses; "" where it fits one."""
    if not found.other_poses:
        return ""
    text = f"the image fits {1 + len(found.other_poses)} poses of the object equally well"
    if all(other.is_anomalous == found.is_anomalous for other in found.other_poses):
        return text
    return f"{text}, and the verdict is another at another one"


def _table(entries: list[dict[str, Any]]) -> str:
    """results.csv: one line per image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"seconds_{stage}" for stage in STAGES)])
    for entry in entries:
        seconds = entry["seconds"] or {}
        cells = [plain_cell(entry[name]) for name in _COLUMNS]
        writer.writerow([*cells, *(seconds.get(stage) for stage in STAGES)])
    return text.getvalue()


def plain_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula, and that does not end its line."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text
