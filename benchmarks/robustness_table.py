"""The rows of `benchmarks.robustness` for people."""

from collections.abc import Callable
from typing import Any

from benchmarks.paper.table import Cell, Column, Table

RATES = (0.01, 0.05)  # false-alarm rates whose thresholds are shown


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows for people."""
    columns: list[tuple[Column, Callable[[dict[str, Any]], Cell]]] = [
        (Column("capture"), lambda r: str(r["capture"])),
        (Column("what differs"), lambda r: str(r["disturbance"])),
        (Column("image AUROC", 3), lambda r: _float(r["image_auroc"])),
        (Column("kinds"), _kinds),
        (Column("pixel AUROC", 4), lambda r: _float(r["pixel_auroc"])),
        (Column("AUPRO .3", 3), lambda r: _float(r["aupro"])),
        (Column("AUPRO .05", 3), lambda r: _float(r["aupro_0.05"])),
        *((Column(f"flagged at {100 * r:g} %"), _flags(f"{r:g}")) for r in RATES),
        (Column("poses found"), lambda r: _counts(r["poses"], "found", "of")),
        (Column("found, but refused"), lambda r: _counts(r["poses"], "found but refused")),
        (Column("PSNR", 1), lambda r: _float(r["quality"]["psnr"])),
        (Column("in the silhouette", 1), lambda r: _float(r["quality"]["psnr_object"])),
    ]
    cells = [[value(row) for _, value in columns] for row in rows]
    notes = [
        "kinds: image AUROC of " + " / ".join(rows[0]["kinds"]) + " alone" if rows else "",
        "flagged: good / defective images above the threshold of that false-alarm rate",
        "poses found: within 1 degree and 0.02 units; refused: pose_ok is false all the same",
    ]
    return Table("robustness", "Robustness", [column for column, _ in columns], cells, notes)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _kinds(row: dict[str, Any]) -> Cell:
    values = row["kinds"].values()
    return " / ".join("-" if value is None else f"{value:.3f}" for value in values)


def _flags(rate: str) -> Callable[[dict[str, Any]], Cell]:
    def words(row: dict[str, Any]) -> Cell:
        found = row["flagged"][rate]
        if found is None:
            return "no threshold"
        good, bad = f"{found['good']} of {found['of good']}", f"{found['defective']}"
        return f"{good} / {bad} of {found['of defective']}"

    return words


def _counts(poses: dict[str, Any] | None, name: str, of: str | None = None) -> Cell:
    if poses is None:
        return "-"
    return f"{poses[name]} of {poses[of]}" if of else str(poses[name])
