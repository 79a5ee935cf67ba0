"""The paper's Figure 3: scores and seconds against the number of Adam steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import quoted
from benchmarks.paper.plan import Variant
from benchmarks.paper.results import SCORES, mean_over_classes, provenance_notes
from benchmarks.table import STD, Table, pd
from scene import atomic_write


def figure_3(detections: pd.DataFrame, steps: Sequence[int]) -> Table:
    """Scores and seconds against the number k of Adam steps, mean over classes."""
    ours = detections[detections["preset"].notna()]
    ours = ours[ours["share"] == detections["share"].max()]
    ours = ours.assign(seconds=ours["refine"] + ours["score"])
    rows: list[dict[str, Any]] = []
    for method in ours["method"].unique():
        for k in sorted(steps):
            chosen = ours[(ours["method"] == method) & (ours["variant"] == Variant("adam", k).name)]
            if chosen.empty:
                continue
            row: dict[str, Any] = {"method": method, "k": k}
            for column in (*SCORES, "seconds"):
                row |= mean_over_classes(column, chosen, column)
            rows.append(row | {"image AUROC (paper)": quoted.FIGURE_3.get(k)})
    below = [quoted.NOTE, "Seconds per image: refinement and score, without the coarse stage.",
             *provenance_notes(ours)]  # fmt: skip
    title = "Figure 3. Adam steps k: scores (%) and time"
    return Table("figure_3", title, pd.DataFrame(rows), {"k": 0, "seconds": 2}, below)


def draw_figure_3(table: Table, path: Path) -> None:
    """The image: scores on the left, seconds on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    scores, times = figure.subplots(1, 2)
    styles = zip((*SCORES, "seconds"), ("o-", "^-", "s-", "o--"), strict=True)
    for column, style in styles:
        for method, rows in table.frame.groupby("method", sort=False):
            known = rows.dropna(subset=[column])
            axes = times if column == "seconds" else scores
            axes.errorbar(
                known["k"], known[column], known[column + STD].fillna(0.0), fmt=style,
                label=f"{method}: {column}", capsize=2,
            )  # fmt: skip
    scores.plot(*zip(*quoted.FIGURE_3.items(), strict=True), "k*", label="image AUROC (paper)")
    scores.set_ylabel("%")
    times.set_ylabel("seconds per image")
    times.set_ylim(bottom=0)
    for axes in (scores, times):
        axes.set_xlabel("Adam steps k")
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)
