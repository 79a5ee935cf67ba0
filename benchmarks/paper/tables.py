"""Tables 1, 2, 3 and 5 of the paper, from records, with the paper's figures in the next columns."""

from collections.abc import Sequence

from benchmarks.paper import paper
from benchmarks.paper.jobs import ANOMALIB
from benchmarks.paper.records import (
    SCORES,
    Record,
    distinct,
    mean_over_classes,
    named,
    score_of,
    seconds_of,
)
from benchmarks.paper.table import Cell, Column, Table, spread
from pipeline.presets import TRAINING
from train import TrainConfig

QUOTED = "Columns marked (paper) are quoted from the SplatPose paper (MAD-Sim), not measured here."
_HEADINGS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}


def table_1(records: Sequence[Record]) -> Table:
    """Image AUROC per class."""
    full = _full(records)
    methods = distinct(full, "method")
    quoted = ["splatpose", "omniposead", *map(_paper_name, methods)]
    quoted = [name for name in dict.fromkeys(quoted) if name in paper.ClassRow._fields]
    rows: list[list[Cell]] = []
    for name in distinct(full, "class_name"):
        of_class = named(full, class_name=name)
        ours = [
            spread(map(score_of("image_auroc"), named(of_class, method=method)))
            for method in methods
        ]
        row = paper.TABLE_1.get(name)
        rows.append([name, *ours, *(None if row is None else getattr(row, q) for q in quoted)])
    means = [
        mean_over_classes(named(full, method=method), score_of("image_auroc")) for method in methods
    ]
    rows.append(["mean", *means, *(getattr(paper.TABLE_1_MEAN, q) for q in quoted)])
    columns = [Column("class"), *map(Column, methods), *(Column(f"{q} (paper)") for q in quoted)]
    notes = [QUOTED, "The paper's mean is over the 20 classes of MAD-Sim.", *_notes(full)]
    return Table("table_1", "Table 1. Image AUROC per class, %", columns, rows, notes)


def table_2(records: Sequence[Record]) -> Table:
    """Pixel AUROC and AUPRO per method, mean over classes."""
    full = _full(records)
    rows: list[list[Cell]] = []
    for method in distinct(full, "method"):
        of_method = named(full, method=method)
        ours = [mean_over_classes(of_method, score_of(name)) for name in SCORES]
        rows.append([method, *ours, *paper.TABLE_2.get(_paper_name(method), (None, None))])
    rows.append(["OmniposeAD, quoted", None, None, None, *paper.TABLE_2["omniposead"]])
    columns = [
        Column("method"), *(Column(_HEADINGS[name]) for name in SCORES),
        Column("pixel AUROC (paper)"), Column("AUPRO (paper)"),
    ]  # fmt: skip
    notes = [QUOTED, "AUPRO up to a false-positive rate of 0.3.", *_notes(full)]
    return Table("table_2", "Table 2. Scores, mean over classes, %", columns, rows, notes)


def table_3(records: Sequence[Record]) -> Table:
    """Seconds of training and inference."""
    full = _full(records)
    rows: list[list[Cell]] = []
    for method in distinct(full, "method"):
        of_method = named(full, method=method)
        training = mean_over_classes(of_method, lambda r: r.results["training_seconds"])
        stages = [
            mean_over_classes(of_method, seconds_of(stage))
            for stage in ("coarse", "refine", "score", "total")
        ]
        without = mean_over_classes(of_method, _without_coarse)
        quoted = paper.TABLE_3.get(_paper_name(method), (None, None))
        rows.append([method, training, *stages, without, *quoted])
    rows.append(["OmniposeAD, quoted", *[None] * 6, *paper.TABLE_3["omniposead"]])
    columns = [
        Column("method"), Column("training"), Column("coarse", 2), Column("refine", 2),
        Column("score", 2), Column("per image", 2), Column("per image without coarse", 2),
        Column("training (paper)"), Column("per image without coarse (paper)"),
    ]  # fmt: skip
    notes = [QUOTED, "The paper's times: one RTX 3090.",
             "Per image: median wall clock, from file to score, beside the other jobs of the run.",
             *_notes(full)]  # fmt: skip
    return Table("table_3", "Table 3. Seconds, mean over classes", columns, rows, notes)


def table_5(records: Sequence[Record]) -> Table:
    """Scores against the share of the train views."""
    methods = distinct(records, "method")
    rows: list[list[Cell]] = []
    for share in sorted(distinct(records, "share")):
        row: list[Cell] = [f"{100 * share:g}"]
        for method in methods:
            of_both = named(records, share=share, method=method)
            for name in ("image_auroc", "aupro"):
                row.append(mean_over_classes(of_both, score_of(name)))
        rows.append([*row, *paper.TABLE_5.get(share, [None] * 4)])
    columns = [Column("% of views")]
    for method in methods:
        columns += [Column(f"{method} image AUROC"), Column(f"{method} AUPRO")]
    for method in ("splatpose", "omniposead"):
        columns += [Column(f"{method} image AUROC (paper)"), Column(f"{method} AUPRO (paper)")]
    notes = [QUOTED, "The views of every job stand in its results.json and in splits.json.",
             *_notes(records)]  # fmt: skip
    return Table("table_5", "Table 5. Scores against the share of views, %", columns, rows, notes)


def _without_coarse(record: Record) -> float | None:
    total, coarse = record.seconds("total"), record.seconds("coarse")
    return None if total is None or coarse is None else total - coarse


def _full(records: Sequence[Record]) -> list[Record]:
    """The records with the largest share of views."""
    largest = max(record.job.share for record in records)
    return [record for record in records if record.job.share == largest and record.own is not None]


def _paper_name(method: str) -> str:
    ours, _, _ = method.removeprefix(ANOMALIB).partition("-")
    return ours


def _notes(records: Sequence[Record]) -> list[str]:
    """What a reader must know to judge the figures."""
    seeds = len(distinct(records, "seed"))
    notes = [
        f"Mean ± sample standard deviation over {seeds} seeds."
        if seeds > 1
        else "One seed: no standard deviation."
    ]
    remarks = {}
    for record in records:
        if record.own is not None:
            remarks[record.job.method] = "; ".join(record.own["remarks"])
    notes += [f"{method}: {words}." for method, words in remarks.items()]
    shares = {f"{100 * record.job.share:g}" for record in records}
    if shares and len(shares) == 1 and shares != {"100"}:
        notes.append(f"Trained on {shares.pop()} % of the views.")
    return [*notes, *provenance_notes(records)]


def _iterations(record: Record) -> str:
    """How long a model was trained; a shortened training is called one."""
    assert record.job.preset is not None
    count, usual = record.results["iterations"], TRAINING[record.job.preset].iterations
    words = "" if count == usual else f" instead of {usual}"
    pixels = record.results["settings"]["resolution"]
    if pixels != TrainConfig.resolution:
        words += f", at {pixels} pixels instead of {TrainConfig.resolution}"
    return f"{record.job.method}: trained for {count} iterations{words}."


def provenance_notes(records: Sequence[Record]) -> list[str]:
    """Length of the trainings, hardware and commits of the jobs."""
    iterations = {_iterations(record) for record in records if record.job.preset is not None}
    commits: dict[str, set[str]] = {}
    for results in (record.results for record in records):
        hardware = results["hardware"]
        machine = f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores"
        threads = f"{results['settings']['threads']} thread(s) a job"
        commits.setdefault(f"{machine}, {threads}", set()).add(_short(results["commit"]))
    return sorted(iterations) + [
        f"Run on: {machine}; commit {', '.join(sorted(commits[machine]))}."
        for machine in sorted(commits)
    ]


def _short(commit: str | None) -> str:
    """Twelve digits, and the + of changes on top."""
    return "unknown" if commit is None else commit[:12] + "+" * commit.endswith("+")
