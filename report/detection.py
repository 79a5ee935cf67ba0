"""What a detection run says, arranged for the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.results import overlay_path
from scene import Query, printable

from .page import Report, ReportImage, Value
from .run_in_3d import RunIn3D

_POSE_FAILED = (
    "The pose was not found: the score says nothing about defects. Look at the rendering."
)
_RAREST = 1e-3  # tail probabilities below it are not told apart
_NO_THRESHOLD = (
    "No threshold, so no verdicts: the model keeps no calibration for these features (calibrate.py "
    "says why). Scores can still be compared with each other."
)
_KIND_COLUMNS = {"n_images": "images", "image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC",
                 "aupro": "AUPRO (0.3)"}  # fmt: skip


def detection_report(
    document: dict[str, Any],  # the content of results.json (docs/formats.md)
    queries: Sequence[Query],  # one for each of the document's images
    title: str,
    folder: Path,  # of the run, with overlays/<name>.jpg of each scored image
    in_3d: RunIn3D | None = None,
) -> Report:
    """The report of a run."""
    summary = document["summary"]
    numbers = [None] * len(queries) if in_3d is None else in_3d.numbers
    images = [
        ReportImage(
            name=printable(query.name),
            score=entry["score"],
            is_anomalous=query.is_anomalous,
            label=None if query.label is None else printable(query.label),
            flagged=entry["is_anomalous"],
            pose_ok=entry["pose_ok"] is not False,
            note=entry["error"]
            or " ".join(
                filter(
                    None, (_sentences(entry.get("note")), _setup_note(entry), _image_note(entry))
                )
            ),
            overlay=None if entry["score"] is None else folder / overlay_path(query),
            number_in_3d=number,
        )
        for query, entry, number in zip(queries, document["images"], numbers, strict=True)
    ]
    figures = {
        "image AUROC": summary["image_auroc"],
        "pixel AUROC": summary["pixel_auroc"],
        "AUPRO (0.3)": summary["aupro"],
        "object AUROC": document.get("object_summary", {}).get("object_auroc"),
        "seconds per image": summary["seconds"]["total"],
    }
    return Report(
        title=title,
        images=images,
        threshold=summary["threshold"],
        threshold_note=summary["threshold_message"] or _NO_THRESHOLD,
        figures={name: value for name, value in figures.items() if value is not None},
        tables=_tables(summary),
        objects=document.get("objects", ()),
        settings=document["settings"],
        notes=document["settings"]["notes"],
        in_3d=in_3d,
    )


def _setup_note(entry: dict[str, Any]) -> str:
    """How the object was cut out, and what of it was not inspected."""
    background, missed = entry.get("background"), entry.get("not_inspected") or 0.0
    parts = [f"Background: {background}."] if background else []
    parts += [f"{missed:.0%} of the object was not inspected."] if missed else []
    return " ".join(parts)


def _image_note(entry: dict[str, Any]) -> str:
    """What to say of a scored image: a lost pose, or how rare its score is among good ones."""
    if entry["pose_ok"] is False:
        return _POSE_FAILED
    chance = entry["tail_probability"]
    if chance is None:
        return ""
    if chance < _RAREST:
        return f"Fewer than {100 * _RAREST:g} % of good images would score so high, by estimate."
    return f"About {100 * chance:.2g} % of good images would score so high, by estimate."


def _sentences(note: str | None) -> str:
    """The notes of an entry, each as a sentence of its own."""
    parts = filter(None, (note or "").split("; "))
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def _tables(summary: dict[str, Any]) -> dict[str, dict[str, dict[str, Value]]]:
    """Seconds per stage, and where labels or true poses are known the figures that they give."""
    tables = {"Seconds per image (median)": {"": summary["seconds"]}}
    if summary["kinds"]:
        tables["Per kind of defect"] = {
            kind: {column: figures[name] for name, column in _KIND_COLUMNS.items()}
            for kind, figures in summary["kinds"].items()
        }
    if "pose" in summary:
        tables["Pose error"] = _pose_table(summary["pose"])
    return tables


def _pose_table(pose: dict[str, Any]) -> dict[str, dict[str, Value]]:
    """The pose errors as rows and columns."""
    figures = ("median", "mean", "max")
    return {
        "rotation, degrees": {figure: pose[f"rotation_deg_{figure}"] for figure in figures},
        "translation, world units": {figure: pose[f"translation_{figure}"] for figure in figures},
        "images within 1 degree": {"number": pose["n_within_1deg"]},
        "and within 0.02 units": {"number": pose["n_within_1deg_and_0.02"]},
    }
