"""What a detection run leaves: maps, overlays, results.json, results.csv, report.html."""

import csv
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.inspector import Inspection
from pipeline.results import STAGES, Results
from scene import Query, atomic_write, write_json

from .overlay import encode_jpeg, overlay
from .page import Report, ReportImage, report_html

_COLUMNS = ("path", "name", "label", "score", "tail_probability", "is_anomalous", "pose_ok",
            "pose_loss", "rotation_error_deg", "translation_error", "map", "error")  # fmt: skip
_POSE_FAILED = (
    "The pose was not found: the score says nothing about defects. Look at the rendering."
)

_WRITERS = 4  # threads that encode and write pictures
_WHOLE, _PARTIAL = "results.json", "results_until_interrupted.json"
_RAREST = 1e-3  # tail probabilities below it are not told apart in words
_NO_THRESHOLD = (
    "No threshold, so no verdicts: the model keeps no calibration for these features (train.py "
    "says why). Scores can still be compared with each other."
)
_KIND_COLUMNS = {"n_images": "images", "image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC",
                 "aupro": "AUPRO (0.3)"}  # fmt: skip


class OutputFolder:
    """Writes the files of one run; results.json comes last and says that the run is whole."""

    def __init__(self, root: Path, display_scale: float) -> None:
        self.root, self.display_scale = root, display_scale
        for name in (_WHOLE, _PARTIAL):  # of an earlier run into the same folder
            (root / name).unlink(missing_ok=True)
        self._pictures: dict[str, bytes] = {}

    def write_images(
        self,
        judged: Sequence[tuple[Query, Inspection, NDArray[np.bool_] | None]],  # and mask [H, W]
        threshold_map: float | None,
    ) -> list[str]:
        """`write_image` of several queries, a few at a time: encoding and disks take longest."""
        with ThreadPoolExecutor(_WRITERS) as pool:
            return list(
                pool.map(
                    lambda one: self.write_image(one[0], one[1], one[2], threshold_map), judged
                )
            )

    def write_image(
        self,
        query: Query,
        found: Inspection,
        mask: NDArray[np.bool_] | None,  # [H, W], ground truth
        threshold_map: float | None,
    ) -> str:
        """Raw map (32-bit float TIFF) and overlay of one query; returns the map's relative path."""
        anomaly_map = found.anomaly_map
        relative = f"maps/{query.name}.tiff"
        with atomic_write(self.root / relative) as file:
            Image.fromarray(anomaly_map.numpy().astype(np.float32)).save(file, format="TIFF")
        flagged = None if threshold_map is None else anomaly_map >= threshold_map
        picture = encode_jpeg(
            overlay(found.image, found.rendering, anomaly_map, self.display_scale, mask, flagged)
        )
        with atomic_write(self.root / f"overlays/{query.name}.jpg") as file:
            file.write(picture)
        self._pictures[query.name] = picture
        return relative

    def write(
        self,
        document: dict[str, Any],
        results: Results,
        title: str,
        remarks: list[str],
        whole: bool = True,
    ) -> None:
        """results.csv, report.html, results.json (another name unless `whole`)."""
        with atomic_write(self.root / "results.csv", "w") as file:
            file.write(_table(document["images"]))
        report = self._report(document, results, title, remarks)
        with atomic_write(self.root / "report.html", "w") as file:
            file.write(report_html(report))
        write_json(self.root / (_WHOLE if whole else _PARTIAL), document)

    def _report(
        self, document: dict[str, Any], results: Results, title: str, remarks: list[str]
    ) -> Report:
        summary, limit = document["summary"], results.threshold
        images = [
            ReportImage(
                name=query.name,
                score=entry["score"],
                is_anomalous=query.is_anomalous,
                kind=query.label,
                flagged=entry["is_anomalous"],
                pose_ok=entry["pose_ok"] is not False,
                note=entry["error"] or _note(entry),
                picture=self._pictures.get(query.name),
            )
            for query, entry in zip(results.queries, results.entries, strict=True)
        ]
        tables = {"Seconds per image (median)": {"": summary["seconds"]}}
        if summary["kinds"]:
            tables["Per kind of defect"] = {
                kind: {words: values[name] for name, words in _KIND_COLUMNS.items()}
                for kind, values in summary["kinds"].items()
            }
        if "pose" in summary:
            tables["Pose error"] = _pose_table(summary["pose"])
        figures = {
            "image AUROC": summary["image_auroc"],
            "pixel AUROC": summary["pixel_auroc"],
            "AUPRO (0.3)": summary["aupro"],
            "seconds per image": summary["seconds"]["total"],
        }
        return Report(
            title=title,
            images=images,
            threshold=None if limit is None else limit.value,
            threshold_words=_NO_THRESHOLD if limit is None else limit.words,
            figures={name: value for name, value in figures.items() if value is not None},
            tables=tables,
            settings=document["settings"],
            remarks=remarks,
        )


def _note(entry: dict[str, Any]) -> str:
    """What to say of a judged image: a lost pose, or how rare its score is among good ones."""
    if entry["pose_ok"] is False:
        return _POSE_FAILED
    chance = entry["tail_probability"]
    if chance is None:
        return ""
    if chance < _RAREST:
        return f"Fewer than {100 * _RAREST:g} % of good images would score so high, by estimate."
    return f"About {100 * chance:.2g} % of good images would score so high, by estimate."


def _pose_table(pose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pose errors as rows and columns of the report."""
    figures = ("median", "mean", "max")
    return {
        "rotation, degrees": {figure: pose[f"rotation_deg_{figure}"] for figure in figures},
        "translation, world units": {figure: pose[f"translation_{figure}"] for figure in figures},
        "images within 1 degree": {"number": pose["n_within_1deg"]},
        "and within 0.02 units": {"number": pose["n_within_1deg_and_0.02"]},
    }


def _table(entries: list[dict[str, Any]]) -> str:
    """results.csv: one line per image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(f"seconds_{stage}" for stage in STAGES)])
    for entry in entries:
        seconds = entry["seconds"] or {}
        writer.writerow(
            [*(entry[name] for name in _COLUMNS), *(seconds.get(stage) for stage in STAGES)]
        )
    return text.getvalue()
