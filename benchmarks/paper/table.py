"""A table with means and standard deviations, as Markdown, LaTeX, CSV and JSON."""

import csv
import io
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scene import atomic_write, write_json


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds."""

    mean: float
    std: float | None  # None: one value only
    n: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Mean and deviation of the values that are known; None when there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(
        statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known)
    )


Cell = str | float | Spread | None


@dataclass(frozen=True)
class Column:
    """Heading, and digits after the point of its numbers."""

    heading: str
    digits: int = 1


@dataclass(frozen=True)
class Table:
    """One table of the benchmark."""

    name: str  # of its files
    title: str
    columns: list[Column]
    rows: list[list[Cell]]  # as long as `columns`
    notes: list[str]


def markdown(table: Table) -> str:
    """A heading, a pipe table, the notes."""
    lines = [f"## {table.title}", "", _pipes(column.heading for column in table.columns)]
    lines.append(_pipes(["---", *["---:"] * (len(table.columns) - 1)]))
    lines += [_pipes(row) for row in _texts(table, " ± ", str)]
    lines += ["", *(f"- {note}" for note in table.notes), ""]
    return "\n".join(lines)


def latex(table: Table) -> str:
    """A table environment, shrunk to the line where it is wider; needs booktabs and graphicx."""
    head = " & ".join(_escaped(column.heading) for column in table.columns)
    body = [" & ".join(row) + r" \\" for row in _texts(table, r" $\pm$ ", _escaped)]
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_escaped(table.title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule",
        head + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}}",
        *(f"% {note}" for note in table.notes), r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def comma_separated(table: Table) -> str:
    """A column of means, and one of deviations where there are any."""
    spreads = [
        any(isinstance(row[i], Spread) for row in table.rows) for i in range(len(table.columns))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = []
    for column, has_spread in zip(table.columns, spreads, strict=True):
        head += [column.heading, f"{column.heading} std"] if has_spread else [column.heading]
    writer.writerow(head)
    for row in table.rows:
        values: list[str | float | None] = []
        for cell, has_spread in zip(row, spreads, strict=True):
            mean, std = (cell.mean, cell.std) if isinstance(cell, Spread) else (cell, None)
            values += [mean, std] if has_spread else [mean]
        writer.writerow(values)
    return text.getvalue()


def as_json(table: Table) -> dict[str, Any]:
    """Plain values; a mean with its deviation is {"mean", "std", "n"}."""
    return {
        "title": table.title,
        "columns": [column.heading for column in table.columns],
        "rows": [
            [cell._asdict() if isinstance(cell, Spread) else cell for cell in row]
            for row in table.rows
        ],
        "notes": table.notes,
    }


def write_table(table: Table, folder: Path) -> None:
    """All four files of a table."""
    texts = {"md": markdown(table), "tex": latex(table), "csv": comma_separated(table)}
    for suffix, text in texts.items():
        with atomic_write(folder / f"{table.name}.{suffix}", "w") as file:
            file.write(text)
    write_json(folder / f"{table.name}.json", as_json(table))


def _texts(table: Table, plus_minus: str, escape: Callable[[str], str]) -> list[list[str]]:
    return [
        [
            escape(cell) if isinstance(cell, str) else _number(cell, column.digits, plus_minus)
            for cell, column in zip(row, table.columns, strict=True)
        ]
        for row in table.rows
    ]


def _number(cell: float | Spread | None, digits: int, plus_minus: str) -> str:
    if cell is None:
        return "-"
    if not isinstance(cell, Spread):
        return f"{cell:.{digits}f}"
    deviation = "" if cell.std is None else f"{plus_minus}{cell.std:.{digits}f}"
    return f"{cell.mean:.{digits}f}{deviation}"


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    for sign in "&%_#":
        text = text.replace(sign, f"\\{sign}")
    return text
