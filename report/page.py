"""One self-contained report.html: pictures, figures and verdicts, readable without a network."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from .charts import roc_chart, score_histogram
from .overlay import encode_jpeg
from .style import STYLE

Value = str | float | int | bool | None
_LEGEND = (
    "From left to right: the image; the defect-free object rendered at the same pose; where the "
    "two differ (the same colours mean the same in all images); both in one, with flagged places "
    "outlined in black and labelled defects in green."
)


@dataclass(frozen=True)
class ReportImage:
    """One query as the report shows it."""

    name: str
    score: float | None  # None: it could not be scored
    is_anomalous: bool | None = None  # the label, if there is one
    kind: str | None = None  # name of the label, "good" or a kind of defect
    flagged: bool | None = None  # the verdict; None: no threshold, or no score
    pose_ok: bool = True
    note: str = ""  # one sentence, for example why the pose is doubted
    picture: bytes | NDArray[np.uint8] | None = None  # JPEG or PNG, or RGB [H, W, 3]


@dataclass(frozen=True)
class Report:
    """All that a report says; texts are escaped, None reads as "not available"."""

    title: str
    images: Sequence[ReportImage]
    threshold: float | None = None
    threshold_words: str = ""  # where the threshold comes from and what it promises
    figures: Mapping[str, Value] = field(default_factory=dict)  # large numbers at the top
    tables: Mapping[str, Mapping[str, Mapping[str, Value]]] = field(
        default_factory=dict
    )  # title -> row -> column -> value, for example figures per kind, seconds per stage
    settings: Mapping[str, object] = field(default_factory=dict)
    remarks: Sequence[str] = ()  # lines such as which features and which backend were used


def report_html(report: Report) -> str:
    """The whole report as one html text, pictures and charts inside."""
    title = escape(report.title)
    body = [
        f"<header><h1>{title}</h1>{_counts(report.images)}</header>",
        _verdict(report),
        _cards(report.figures),
        _charts(report),
        _tables(report.tables),
        _gallery(report),
        _settings(report.settings),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _counts(images: Sequence[ReportImage]) -> str:
    """One line of pills: how many images, flagged, passed, not scored, doubtful poses."""
    counts = {
        "": (len(images), "images"),
        "bad": (sum(i.flagged is True for i in images), "flagged"),
        "good": (sum(i.flagged is False for i in images), "passed"),
        "warn": (sum(not i.pose_ok for i in images), "pose failed"),
        "dim": (sum(i.score is None for i in images), "not scored"),
    }
    pills = [
        f'<span class="pill {kind}">{count} {words}</span>'
        for kind, (count, words) in counts.items()
        if count
    ]
    return f'<p class="pills">{"".join(pills)}</p>'


def _verdict(report: Report) -> str:
    lines = []
    if report.threshold is not None:
        lines.append(f"<strong>Threshold {_format(report.threshold)}.</strong>")
    lines.append(escape(report.threshold_words))
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in report.remarks)
    words = " ".join(line for line in lines if line)
    return (f"<p>{words}</p>" if words else "") + (f"<ul>{remarks}</ul>" if remarks else "")


def _cards(figures: Mapping[str, Value]) -> str:
    cards = "".join(
        f'<div class="card"><b>{_format(value)}</b><span>{escape(name)}</span></div>'
        for name, value in figures.items()
    )
    return f'<section class="cards">{cards}</section>' if cards else ""


def _charts(report: Report) -> str:
    names = {False: "good", True: "defective", None: "not labelled"}
    groups: dict[str, list[float]] = {name: [] for name in names.values()}
    for image in report.images:
        if image.score is not None:
            groups[names[image.is_anomalous]].append(image.score)
    used = {name: scores for name, scores in groups.items() if scores}
    charts = [score_histogram(used, report.threshold)]
    if groups["good"] and groups["defective"]:
        charts.append(roc_chart(groups["defective"], groups["good"]))
    figures = "".join(f"<figure>{chart}</figure>" for chart in charts if chart)
    return f'<section class="charts">{figures}</section>' if figures else ""


def _tables(tables: Mapping[str, Mapping[str, Mapping[str, Value]]]) -> str:
    return f'<div class="tables">{"".join(_table(*item) for item in tables.items())}</div>'


def _table(title: str, rows: Mapping[str, Mapping[str, Value]]) -> str:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = [
        f"<tr><th>{escape(name)}</th>"
        + "".join(f"<td>{_format(row.get(column))}</td>" for column in columns)
        + "</tr>"
        for name, row in rows.items()
    ]
    return (
        f"<section><h2>{escape(title)}</h2><table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></section>"
    )


def _gallery(report: Report) -> str:
    """All images, those that could not be scored first, then by falling score."""
    ranked = sorted(report.images, key=lambda i: (i.score is not None, -(i.score or 0.0), i.name))
    articles = "".join(_article(image, report.threshold) for image in ranked)
    return (
        f"<section><h2>Images by score</h2><p>{_LEGEND}</p>{articles}</section>" if articles else ""
    )


def _article(image: ReportImage, threshold: float | None) -> str:
    badges = []
    if image.flagged is not None:
        badges.append(("bad", "anomalous") if image.flagged else ("good", "normal"))
    if not image.pose_ok:
        badges.append(("warn", "pose failed"))
    if image.score is None:
        badges.append(("dim", "not scored"))
    if image.kind is not None:
        badges.append(("dim", f"label: {image.kind}"))
    if None not in (image.flagged, image.is_anomalous) and image.flagged != image.is_anomalous:
        badges.append(("warn", "missed defect" if image.is_anomalous else "false alarm"))
    pills = "".join(f'<span class="pill {kind}">{escape(words)}</span>' for kind, words in badges)
    relative = ""
    if image.score is not None and threshold:
        relative = f" <small>{image.score / threshold:.2f} x threshold</small>"
    score = "" if image.score is None else f'<span class="score">{_format(image.score)}</span>'
    note = f"<p>{escape(image.note)}</p>" if image.note else ""
    return (
        f"<article><h3>{escape(image.name)} {score}{relative}{pills}</h3>{note}"
        f"{_picture(image)}</article>"
    )


def _picture(image: ReportImage) -> str:
    if image.picture is None:
        return ""
    picture = image.picture
    data = picture if isinstance(picture, bytes) else encode_jpeg(picture)
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    text = base64.b64encode(data).decode("ascii")
    return f'<img loading="lazy" alt="{escape(image.name)}" src="data:image/{kind};base64,{text}">'


def _settings(settings: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in settings.items()
    )
    if not rows:
        return ""
    return f"<details><summary>Settings</summary><table>{rows}</table></details>"


def _format(value: Value) -> str:
    """A number with four digits, "not available" as a dash, text escaped."""
    if value is None:
        return "&ndash;"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return escape(str(value))
