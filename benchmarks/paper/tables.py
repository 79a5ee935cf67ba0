"""The paper's Tables 1 to 5, its figures in the next columns, and the hours to expect."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import quoted
from benchmarks.paper.figure_3 import draw_figure_3, figure_3
from benchmarks.paper.plan import ANOMALIB, TEST_SPLIT, Job
from benchmarks.paper.results import (
    SCORES,
    STAGES,
    Results,
    mean_over_classes,
    notes,
    provenance_notes,
    spread,
)
from benchmarks.table import Table, markdown, pd, write_table
from scene import atomic_write, write_json

_POSE_DIGITS = {
    f"{kind} {figure}{unit}": 4
    for kind, unit in (("translation", ""), ("rotation", " (rad)"))
    for figure in ("mean", "median", "worst")
}
Row = dict[str, Any]


def write_tables(jobs: Sequence[Job], root: Path, steps: Sequence[int]) -> Path | None:
    """Writes tables/ (each table in four formats, and all of them in README.md) and splits.json.

    Returns the path of README.md, or None when no job is finished yet.
    """
    results = Results.load(jobs, root)
    if not results.views:
        return None
    folder = root / "tables"
    count = f"{len(results.views)} of {len(jobs)} jobs"
    text = f"# {root.name}: {count}\n\n"
    for table in make_tables(results, steps):
        print(markdown(table))
        write_table(table, folder)
        text += markdown(table) + "\n"
        if table.name == "figure_3":
            draw_figure_3(table, folder / "figure_3.png")
            text += "![Figure 3](figure_3.png)\n\n"
    write_json(root / "splits.json", results.views)
    path = folder / "README.md"
    with atomic_write(path, "w") as file:
        file.write(text)
    print(f"tables of {count}: {path}")
    return path


def make_tables(results: Results, steps: Sequence[int]) -> list[Table]:
    """Those tables that the results can fill."""
    tables: list[Table] = []
    everything = results.detections
    has_detections = not everything.empty and bool(everything["own"].any())
    if has_detections:
        own = everything[everything["own"]]
        full = own[own["share"] == own["share"].max()]
        tables += [table_1(full), table_2(full), table_3(full)]
    if not results.poses.empty:
        tables.append(table_4(results.poses))
    if has_detections:
        if own["share"].nunique() > 1:
            tables.append(table_5(own))
        if steps:
            tables.append(figure_3(everything, steps))
        tables.append(hours(full))
    return [table for table in tables if not table.frame.empty]


def table_1(full: pd.DataFrame) -> Table:
    """Image AUROC per class, from detections with the methods' own refinement and all views."""
    rows: list[Row] = []
    for name, of_class in full.groupby("class", sort=False):
        row: Row = {"class": name}
        for method in full["method"].unique():
            row |= spread(method, of_class[of_class["method"] == method]["image AUROC"])
        rows.append(row | _paper_columns(quoted.TABLE_1.get(str(name))))
    row = {"class": "mean"}
    for method, of_method in full.groupby("method", sort=False):
        row |= mean_over_classes(str(method), of_method, "image AUROC")
    rows.append(row | _paper_columns(quoted.TABLE_1_MEAN))
    below = [quoted.NOTE, "The paper's mean is over the 20 classes of MAD-Sim.", *notes(full)]
    return Table("table_1", "Table 1. Image AUROC per class, %", pd.DataFrame(rows), notes=below)


def _paper_columns(row: quoted.ClassRow | None) -> Row:
    names = quoted.ClassRow._fields
    return {f"{name} (paper)": None if row is None else getattr(row, name) for name in names}


def table_2(full: pd.DataFrame) -> Table:
    """Scores per method, mean over classes."""
    rows: list[Row] = []
    for method, of_method in full.groupby("method", sort=False):
        row: Row = {"method": method}
        for score in SCORES:
            row |= mean_over_classes(score, of_method, score)
        rows.append(row | _paper_scores(_paper_name(str(method))))
    measured = {_paper_name(method) for method in full["method"]}
    rows += [
        {"method": f"{quoted.NAMES[name]}, quoted"} | _paper_scores(name)
        for name in quoted.TABLE_2
        if name not in measured
    ]
    below = [quoted.NOTE, "AUPRO up to a false-positive rate of 0.3.", *notes(full)]
    return Table(
        "table_2", "Table 2. Scores, mean over classes, %", pd.DataFrame(rows), notes=below
    )


def _paper_scores(name: str) -> Row:
    pixel_auroc, aupro = quoted.TABLE_2.get(name, (None, None))
    return {"pixel AUROC (paper)": pixel_auroc, "AUPRO (paper)": aupro}


def table_3(full: pd.DataFrame) -> Table:
    """Seconds of training and inference."""
    headings = dict(zip(STAGES, (*STAGES[:-1], "per image"), strict=True))
    without = "per image without coarse"
    full = full.assign(**{without: full["total"] - full["coarse"]})
    rows: list[Row] = []
    for method, of_method in full.groupby("method", sort=False):
        row: Row = {"method": method} | mean_over_classes("training", of_method, "training")
        for column, heading in (*headings.items(), (without, without)):
            row |= mean_over_classes(heading, of_method, column)
        rows.append(row | _paper_seconds(_paper_name(str(method))))
    rows.append({"method": "OmniposeAD, quoted"} | _paper_seconds("omniposead"))
    below = [quoted.NOTE, "The paper's times: one RTX 3090.",
             "Per image: median wall clock, from file to score, beside the other jobs of the run.",
             *notes(full)]  # fmt: skip
    digits = dict.fromkeys((*headings.values(), without), 2)
    return Table(
        "table_3", "Table 3. Seconds, mean over classes", pd.DataFrame(rows), digits, below
    )


def _paper_seconds(name: str) -> Row:
    training, image = quoted.TABLE_3.get(name, (None, None))
    return {"training (paper)": training, "per image without coarse (paper)": image}


def table_4(poses: pd.DataFrame) -> Table:
    """Coarse and final pose errors per class and method, and the mean over classes."""
    first = "scene, method, stage"
    rows: list[Row] = []
    for method, of_method in poses.groupby("method", sort=False):
        groups = list(of_method.groupby("class", sort=False))
        if len(groups) > 1 and of_method["split"].nunique() == 1:
            groups.append(("mean", of_method))
        for name, group in groups:
            for stage, of_stage in group.groupby("stage", sort=False):
                row: Row = {first: f"{name}, {method}, {stage}"}
                for column in (*_POSE_DIGITS, "% within 1 degree and 0.02", "seconds"):
                    row |= mean_over_classes(column, of_stage, column)
                data = "blender" if of_stage["split"].iloc[0] == TEST_SPLIT else "mad"
                rows.append(row | _paper_errors(quoted.TABLE_4[str(stage), data]))
    for data, name in (("mad", "MAD-Sim"), ("blender", "NeRF-synthetic")):
        errors = _paper_errors(quoted.TABLE_4["inerf", data])
        rows.append({first: f"iNeRF on {name}, quoted"} | errors)
    known = poses[["class", "images", "split"]].drop_duplicates().itertuples(index=False)
    splits = sorted(f"{name}: {count} images, {split}." for name, count, split in known)
    below = [quoted.NOTE.replace("(MAD-Sim)", "(means over MAD-Sim, or over NeRF-synthetic)"),
             "Seconds: median per image, of this stage.", *splits,
             *provenance_notes(poses)]  # fmt: skip
    digits = _POSE_DIGITS | {"seconds": 2, "translation (paper)": 3, "rotation (paper)": 3}
    title = "Table 4. Pose errors, world units and radians"
    return Table("table_4", title, pd.DataFrame(rows), digits, below)


def _paper_errors(row: quoted.PoseRow) -> Row:
    return {"translation (paper)": row.translation, "rotation (paper)": row.rotation}


def table_5(own: pd.DataFrame) -> Table:
    """Scores against the share of the train views."""
    rows: list[Row] = []
    for share, of_share in own.groupby("share"):
        row: Row = {"% of views": f"{100 * float(str(share)):g}"}
        for method in own["method"].unique():
            of_both = of_share[of_share["method"] == method]
            for score in ("image AUROC", "AUPRO"):
                row |= mean_over_classes(f"{method} {score}", of_both, score)
        names = [f"{method} {score} (paper)" for method in ("splatpose", "omniposead")
                 for score in ("image AUROC", "AUPRO")]  # fmt: skip
        figures = quoted.TABLE_5.get(float(str(share)), (None,) * 4)
        rows.append(row | dict(zip(names, figures, strict=True)))
    below = [quoted.NOTE, "The views of every job stand in its results.json and in splits.json.",
             *notes(own)]  # fmt: skip
    title = "Table 5. Scores against the share of views, %"
    return Table("table_5", title, pd.DataFrame(rows), notes=below)


def hours(full: pd.DataFrame, classes: int = 20, seeds: int = 5) -> Table:
    """What the whole of MAD-Sim would take, from what was measured here (docs/benchmarks.md)."""
    rows: list[Row] = []
    ours = full[full["preset"].notna()]
    for method, jobs in ours.groupby("method", sort=False):
        training = spread("training, s", jobs["training"] + jobs["calibration"])
        image, images = spread("per image, s", jobs["total"]), jobs["images"].mean()
        seconds = training["training, s"] + images * image["per image, s"]
        total = {f"hours for {classes} x {seeds} jobs": classes * seeds * seconds / 3600}
        rows.append({"method": method} | training | image | {"images": images} | total)
    below = [f"hours = {classes} classes x {seeds} seeds x (training + images x per image) / 3600, "
             "one job after the other; divide by the number of workers.",
             "Training: optimisation and calibration. Mean ± deviation over the jobs.",
             *provenance_notes(ours)]  # fmt: skip
    title = "Expected hours for MAD-Sim, from these jobs"
    return Table("hours", title, pd.DataFrame(rows), {"per image, s": 2, "images": 0}, below)


def _paper_name(method: str) -> str:
    ours, _, _ = method.removeprefix(ANOMALIB).partition("-")
    return ours
