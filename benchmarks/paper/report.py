"""All tables of a benchmark, in one folder."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper.further_tables import draw_figure_3, figure_3, hours, table_4
from benchmarks.paper.jobs import Job
from benchmarks.paper.records import Record, load_records
from benchmarks.paper.table import Table, markdown, write_table
from benchmarks.paper.tables import table_1, table_2, table_3, table_5
from scene import atomic_write, write_json


def write_report(jobs: Sequence[Job], root: Path, steps: Sequence[int]) -> Path | None:
    """Writes tables/ (each table in four formats, and all of them in README.md) and splits.json.

    Returns the path of README.md, or None when no job is finished yet.
    """
    records = load_records(jobs, root)
    if not records:
        return None
    folder = root / "tables"
    tables = make_tables(records, steps)
    for table in tables:
        print(markdown(table))
        write_table(table, folder)
        if table.name == "figure_3":
            draw_figure_3(table, folder / "figure_3.png")
    write_json(root / "splits.json", {r.job.id: r.results["views"] for r in records})
    path = folder / "README.md"
    with atomic_write(path, "w") as file:
        file.write(f"# {root.name}: {len(records)} of {len(jobs)} jobs\n\n")
        for table in tables:
            file.write(markdown(table) + "\n")
            if table.name == "figure_3":
                file.write("![Figure 3](figure_3.png)\n\n")
    print(f"tables of {len(records)} of {len(jobs)} jobs: {path}")
    return path


def make_tables(records: Sequence[Record], steps: Sequence[int]) -> list[Table]:
    """Those tables that the records can fill."""
    judged = [record for record in records if record.own is not None]
    tables: list[Table] = []
    if judged:
        tables += [table_1(judged), table_2(judged), table_3(judged)]
    if any(record.results["poses"] is not None for record in records):
        tables.append(table_4(records))
    if len({record.job.share for record in judged}) > 1:
        tables.append(table_5(judged))
    if steps and judged:
        tables.append(figure_3(judged, steps))
    if judged:
        tables.append(hours(judged))
    return tables
