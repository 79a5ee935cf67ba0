"""One self-contained report.html: images, figures and verdicts, readable without a network."""

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scene import InputError, atomic_write

from .charts import roc_chart, score_histogram
from .directions import DirectionMap
from .run_in_3d import RunIn3D

Value = str | float | int | bool | None
_INLINED = 200  # images inside of the page; where there are more they are files beside it
_TEMPLATES = Path(__file__).parent / "templates"
_STATIC = Path(__file__).parent / "static"
_GROUPS = {False: "good", True: "defective", None: "not labelled"}  # of the histogram


@dataclass(frozen=True)
class ReportImage:
    """One query as the report shows it."""

    name: str
    score: float | None  # None: it could not be scored
    is_anomalous: bool | None = None  # what its label says; None: it has no label
    label: str | None = None  # "good" or a kind of defect
    flagged: bool | None = None  # the verdict; None: no threshold, or no score
    pose_ok: bool = True
    note: str = ""  # one sentence, for example why the pose is doubted
    overlay: Path | bytes | None = None  # JPEG, or its file, read when the report is written
    number_in_3d: int | None = None  # of the image in the 3D view's document


@dataclass(frozen=True)
class Report:
    """All that a report says; texts may hold anything, None reads as "not available"."""

    title: str
    images: Sequence[ReportImage]
    threshold: float | None = None
    threshold_note: str = ""  # where the threshold comes from and what it promises
    figures: Mapping[str, Value] = field(default_factory=dict)  # large numbers at the top
    tables: Mapping[str, Mapping[str, Mapping[str, Value]]] = field(
        default_factory=dict
    )  # title -> row -> column -> value, for example figures per kind, seconds per stage
    objects: Sequence[Mapping[str, Any]] = ()  # entries of results.json, of detect.py --group-by
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()  # lines such as which features and which backend were used
    in_3d: RunIn3D | None = None  # the object with its defects; None: the page has no 3D view
    heading: str = "Images"
    scores: Mapping[str, Sequence[float]] | None = None  # of the histogram; None: of the images
    directions: DirectionMap | None = None  # from where the object was seen
    progress: Path | None = None  # picture of the training, JPEG


def write_report(path: Path, report: Report) -> None:
    """Writes the page with its style, scripts and charts inside; one image is in memory at a time.

    Up to 200 images are inside too; more stay files, which the page finds from its own folder and
    loads when they are looked at. Images that could not be scored come first, the others by falling
    score.

    Raises:
        InputError: an overlay cannot be read, or the disk is full.
    """
    ranked = sorted(report.images, key=lambda i: (i.score is not None, -(i.score or 0.0), i.name))
    scores = _scores(report.images)
    good, defective = scores.get("good"), scores.get("defective")
    linked = sum(isinstance(image.overlay, Path) for image in report.images) > _INLINED
    environment = _environment()
    environment.filters["source"] = partial(_link, path.parent) if linked else _data_uri
    template = environment.get_template("report.html.jinja")
    page = template.stream(
        report=report,
        images=ranked,
        places={image.name: number for number, image in enumerate(ranked, start=1)},
        histogram=score_histogram(report.scores or scores, report.threshold),
        roc=roc_chart(defective, good) if good and defective else None,
        linked=linked,
        numbers={image.name: image.number_in_3d for image in ranked},
    )
    with atomic_write(path) as file:
        # A file name that is not UTF-8 has lone surrogates, which UTF-8 text cannot hold.
        page.dump(file, "utf-8", "backslashreplace")


def _scores(images: Sequence[ReportImage]) -> dict[str, list[float]]:
    """Scores by group, of the groups that have any."""
    groups: dict[str, list[float]] = {name: [] for name in _GROUPS.values()}
    for image in images:
        if image.score is not None and image.pose_ok:  # as the figures count them
            groups[_GROUPS[image.is_anomalous]].append(image.score)
    return {name: scores for name, scores in groups.items() if scores}


def _environment() -> Environment:
    """Jinja2 with the filters of the templates; whatever is inserted is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number, columns=_columns, script_json=script_json, data_uri=_data_uri
    )
    environment.globals.update(inline=_inline, inlined_script=inlined_script)
    return environment


def inlined_script(name: str) -> Markup:
    """One of our scripts for a <script>: without its comments and the spaces before lines."""
    text = (_STATIC / name).read_text("utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return Markup(re.sub(r"^\s*(//.*\n)?", "", text, flags=re.MULTILINE))


def _inline(name: str) -> Markup:
    """One of our own files as it stands, for a <style>."""
    return Markup((_STATIC / name).read_text("utf-8"))


def script_json(document: object) -> Markup:
    """JSON for a <script type="application/json">: nothing in it can end the script."""
    text = json.dumps(document, separators=(",", ":"))  # ASCII: lone surrogates are escaped
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _link(folder: Path, path: Path) -> str:
    """The address of a file as seen from the page's folder."""
    if not path.is_file():
        raise InputError(f"There is no file {path}, which the report shows: run detect.py again.")
    return quote(os.fsencode(os.path.relpath(path, folder)))


def _data_uri(source: Path | bytes) -> Markup:
    """A JPEG, or its file, as an address that holds the image itself."""
    data = source if isinstance(source, bytes) else _read(source)
    return Markup("data:image/jpeg;base64,") + Markup(base64.b64encode(data).decode("ascii"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Cannot read {path} ({error.strerror}), which the report shows: run detect.py again."
        ) from error


def _columns(rows: Mapping[str, Mapping[str, Value]]) -> list[str]:
    """Names of all columns, in the order of their first appearance."""
    return list(dict.fromkeys(column for row in rows.values() for column in row))


def _number(value: Value) -> str:
    """A number with four digits, yes or no, a dash for "not available"; text as it is."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
