"""A table of figures, some with deviations, as CSV, JSON, Markdown and LaTeX.

Needs pandas (optional: pip install .[benchmarks]).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scene import InputError, atomic_write, write_json

try:
    import pandas as pd
except ImportError as error:
    raise InputError(
        f"the tables of the benchmarks need pandas ({error}): pip install .[benchmarks]"
    ) from error

STD = " std"  # ends the name of the column of deviations that belongs to a column of means
_ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in "&%_#"})


@dataclass(frozen=True)
class Table:
    """One table. Where a column `x std` follows a column `x`, they are shown as mean ± std."""

    name: str  # of its files
    title: str
    frame: pd.DataFrame  # texts and numbers; None or NaN: there is no figure
    digits: dict[str, int] = field(default_factory=dict)  # after the point, where not 1
    notes: Sequence[str] = ()

    def texts(self) -> pd.DataFrame:
        """The cells as people read them, all of type str."""
        columns = [column for column in self.frame if not column.endswith(STD)]
        return pd.DataFrame({column: self._texts(column) for column in columns}, dtype=str)

    def _texts(self, column: str) -> list[str]:
        values = self.frame[column]
        deviations: Iterable[Any] = self.frame.get(column + STD, [None] * len(values))
        shown = []
        for value, deviation in zip(values, deviations, strict=True):
            if isinstance(value, str):
                shown.append(value)
                continue
            number: Callable[[float], str] = f"{{:.{self.digits.get(column, 1)}f}}".format
            text = "-" if pd.isna(value) else number(value)
            shown.append(text if pd.isna(deviation) else f"{text} ± {number(deviation)}")
        return shown


def markdown(table: Table) -> str:
    """A heading, a pipe table, the notes."""
    texts = table.texts()
    rule = ["---", *["---:"] * (len(texts.columns) - 1)]
    rows = [list(texts.columns), rule, *texts.to_numpy().tolist()]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([f"## {table.title}", "", *lines, "", *notes, ""])


def latex(table: Table) -> str:
    """A table environment, shrunk to the line where it is wider; needs booktabs and graphicx."""
    texts = table.texts()
    alignment = "l" + "r" * (len(texts.columns) - 1)
    body = texts.to_latex(index=False, escape=True, column_format=alignment)
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{table.title.translate(_ESCAPED)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        body.strip().replace("±", r"$\pm$") + "}",
        *(f"% {note}" for note in table.notes), r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def write_table(table: Table, folder: Path) -> None:
    """The four files of a table; the CSV and JSON have all digits."""
    texts = {
        "md": markdown(table),
        "tex": latex(table),
        "csv": table.frame.to_csv(index=False, lineterminator="\n"),
    }
    for suffix, text in texts.items():
        with atomic_write(folder / f"{table.name}.{suffix}", "w") as file:
            file.write(text)
    rows = json.loads(table.frame.to_json(orient="records"))
    document = {"title": table.title, "rows": rows, "notes": list(table.notes)}
    write_json(folder / f"{table.name}.json", document)
