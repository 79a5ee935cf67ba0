"""Table 4 (pose errors), Figure 3 (Adam steps) and the expected hours, from records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import paper
from benchmarks.paper.jobs import Variant
from benchmarks.paper.records import (
    SCORES,
    Record,
    Value,
    distinct,
    mean_over_classes,
    named,
    score_of,
)
from benchmarks.paper.table import Cell, Column, Table, spread
from benchmarks.paper.tables import QUOTED, provenance_notes
from scene import atomic_write

_TEST_SPLIT = "test split"


def table_4(records: Sequence[Record]) -> Table:
    """Coarse and final pose errors per class and method, and the mean over classes."""
    measured = [record for record in records if record.results["poses"] is not None]
    rows: list[list[Cell]] = []
    for method in distinct(measured, "method"):
        of_method = named(measured, method=method)
        for name in distinct(of_method, "class_name"):
            of_class = named(of_method, class_name=name)
            split = of_class[0].results["poses"]["split"]
            for stage in ("coarse", "final"):
                rows.append([f"{name}, {method}, {stage}", *_errors(of_class, stage, split)])
        splits = {record.results["poses"]["split"] for record in of_method}
        if len(distinct(of_method, "class_name")) > 1 and len(splits) == 1:
            split = splits.pop()
            for stage in ("coarse", "final"):
                rows.append([f"mean, {method}, {stage}", *_errors(of_method, stage, split)])
    for split, words in (("mad", "MAD-Sim"), ("blender", "NeRF-synthetic")):
        row = paper.TABLE_4["inerf", split]
        rows.append([f"iNeRF on {words}, quoted", *[None] * 8, row.translation, row.rotation])
    columns = [
        Column("scene, method, stage"),
        Column("translation mean", 4), Column("translation median", 4),
        Column("translation worst", 4), Column("rotation mean (rad)", 4),
        Column("rotation median (rad)", 4), Column("rotation worst (rad)", 4),
        Column("% within 1 degree and 0.02"), Column("seconds", 2),
        Column("translation (paper)", 3), Column("rotation (paper)", 3),
    ]  # fmt: skip
    splits = {
        f"{record.job.class_name}: {record.results['poses']['n_images']} images, "
        f"{record.results['poses']['split']}."
        for record in measured
    }
    notes = [QUOTED.replace("(MAD-Sim)", "(means over MAD-Sim, or over NeRF-synthetic)"),
             "Seconds: median per image, of this stage.", *sorted(splits),
             *provenance_notes(measured)]  # fmt: skip
    return Table("table_4", "Table 4. Pose errors, world units and radians", columns, rows, notes)


def _errors(records: Sequence[Record], stage: str, split: str) -> list[Cell]:
    def over(path: Sequence[str]) -> Cell:
        return mean_over_classes(records, lambda record: _at(record.results["poses"], path))

    figures: list[Cell] = [
        over((stage, kind, figure))
        for kind in ("translation", "rotation_rad")
        for figure in ("mean", "median", "worst")
    ]
    found = mean_over_classes(records, lambda r: 100 * r.results["poses"][stage]["found"])
    seconds = over(("seconds", "coarse" if stage == "coarse" else "refine"))
    quoted = paper.TABLE_4[stage, "blender" if split == _TEST_SPLIT else "mad"]
    return [*figures, found, seconds, *quoted]


def _at(values: Any, path: Sequence[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def figure_3(records: Sequence[Record], steps: Sequence[int]) -> Table:
    """Scores and seconds against the number k of Adam steps, mean over classes."""
    largest = max(record.job.share for record in records)
    ours = [r for r in records if r.job.preset is not None and r.job.share == largest]
    rows: list[list[Cell]] = []
    for method in distinct(ours, "method"):
        for k in sorted(steps):
            name = Variant("adam", k).name
            of_method = [r for r in named(ours, method=method) if name in r.results["detections"]]
            if not of_method:
                continue
            scores = [mean_over_classes(of_method, score_of(score, name)) for score in SCORES]
            seconds = mean_over_classes(of_method, _fine_seconds(name))
            rows.append([method, k, *scores, seconds, paper.FIGURE_3.get(k)])
    columns = [
        Column("method"), Column("k", 0), Column("image AUROC"), Column("pixel AUROC"),
        Column("AUPRO"), Column("seconds", 2), Column("image AUROC (paper)"),
    ]  # fmt: skip
    notes = [QUOTED, "Seconds per image: refinement and score, without the coarse stage.",
             *provenance_notes(ours)]  # fmt: skip
    return Table("figure_3", "Figure 3. Adam steps k: scores (%) and time", columns, rows, notes)


def _fine_seconds(variant: str) -> Value:
    """Reads the seconds of refinement and score."""

    def value(record: Record) -> float | None:
        seconds = record.results["detections"][variant]["seconds"]
        return None if seconds["refine"] is None else float(seconds["refine"] + seconds["score"])

    return value


def draw_figure_3(table: Table, path: Path) -> None:
    """The picture: scores on the left, seconds on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    scores, times = figure.subplots(1, 2)
    headings = [column.heading for column in table.columns]
    for method in dict.fromkeys(row[0] for row in table.rows):
        rows = [row for row in table.rows if row[0] == method]
        for heading, style in (("image AUROC", "o-"), ("pixel AUROC", "^-"), ("AUPRO", "s-")):
            _line(scores, rows, headings.index(heading), f"{method}: {heading}", style)
        _line(times, rows, headings.index("seconds"), f"{method}: seconds", "o--")
    scores.plot(*zip(*paper.FIGURE_3.items(), strict=True), "k*", label="image AUROC (paper)")
    scores.set_ylabel("%")
    times.set_ylabel("seconds per image")
    times.set_ylim(bottom=0)
    for axes in (scores, times):
        axes.set_xlabel("Adam steps k")
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _line(axes: Any, rows: Sequence[list[Cell]], column: int, label: str, style: str) -> None:
    """One curve with the deviations over seeds as bars."""
    points = [(row[1], row[column]) for row in rows if row[column] is not None]
    if points:
        means = [cell.mean for _, cell in points]  # type: ignore[union-attr]
        stds = [cell.std or 0.0 for _, cell in points]  # type: ignore[union-attr]
        axes.errorbar([k for k, _ in points], means, stds, fmt=style, label=label, capsize=2)


def hours(records: Sequence[Record], classes: int = 20, seeds: int = 5) -> Table:
    """What the whole of MAD-Sim would take, from what was measured here (docs/benchmarks.md)."""
    largest = max(record.job.share for record in records)
    full = [r for r in named(records, share=largest) if r.job.preset and r.own is not None]
    rows: list[list[Cell]] = []
    for method in distinct(full, "method"):
        of_method = named(full, method=method)
        training = spread(
            r.results["training_seconds"] + r.results["calibration_seconds"] for r in of_method
        )
        own = [record.own for record in of_method if record.own is not None]
        image = spread(summary["seconds"]["total"] for summary in own)
        images = spread(summary["n_images"] for summary in own)
        if training is None or image is None or images is None:
            continue
        total = classes * seeds * (training.mean + images.mean * image.mean) / 3600
        rows.append([method, training, image, images.mean, total])
    columns = [
        Column("method"), Column("training, s"), Column("per image, s", 2), Column("images", 0),
        Column(f"hours for {classes} x {seeds} jobs"),
    ]  # fmt: skip
    notes = [f"hours = {classes} classes x {seeds} seeds x (training + images x per image) / 3600, "
             "one job after the other; divide by the number of workers.",
             "Training: optimisation and calibration. Mean ± deviation over the jobs.",
             *provenance_notes(full)]  # fmt: skip
    return Table("hours", "Expected hours for MAD-Sim, from these jobs", columns, rows, notes)
