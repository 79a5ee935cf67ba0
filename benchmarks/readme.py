"""Fills README's table "What to expect" with the figures of runs, or checks that it shows them.

    python -m benchmarks.readme --run data/brick_dog=out/quickstart/detections/quickstart
    python -m benchmarks.readme --check --run data/brick_dog=out/brick_dog/detections/x \\
        "another class of the same kind (brick_parrot)=out/brick_parrot/detections/y"

One column per --run HEADING=FOLDER. The figures come from results.json in FOLDER, which detect.py
wrote, and from config.json of its model; none is typed by hand. --check writes nothing and ends
with status 1 when README shows another table.
"""

import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from pipeline.command_line import run as run_script
from scene import InputError, atomic_write, damage_named, read_json

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- figures: written by python -m benchmarks.readme -->"
END = "<!-- end of the figures -->"


@dataclass(frozen=True)
class ReadmeConfig:
    """Whose figures are shown."""

    run: tuple[str, ...]
    """Columns, each HEADING=FOLDER with the results.json of a detection run."""
    readme: Path = README
    """The file with the table."""
    check: bool = False
    """Write nothing; status 1 when the file shows other figures."""


class Run(NamedTuple):
    """What one column shows."""

    heading: str
    summary: dict[str, Any]  # of results.json
    settings: dict[str, Any]
    images: list[dict[str, Any]]
    trained: dict[str, Any]  # config.json of the model


def read_run(argument: str) -> Run:
    """A column from HEADING=FOLDER. Raises InputError."""
    heading, sign, folder = argument.rpartition("=")
    if not sign or not heading:
        raise InputError(f"--run wants HEADING=FOLDER, not '{argument}'")
    path = Path(folder).resolve() / "results.json"
    results = read_json(path)
    with damage_named(path, "run detect.py again"):
        settings, model = results["settings"], path.parents[2]  # <model>/detections/<run>/
        if not (model / "config.json").is_file():
            model = Path(settings["model"])
        trained = read_json(model / "config.json")
        return Run(heading, results["summary"], settings, results["images"], trained)


def make_table(runs: Sequence[Run]) -> str:
    """The table as Markdown, and from which commits it is. Raises InputError."""
    kinds = [list(run.summary["kinds"]) for run in runs]
    if any(each != kinds[0] for each in kinds):
        raise InputError(f"the runs have different kinds of defects ({kinds}): show one at a time")
    rates = {run.settings["false_alarm_rate"] for run in runs}
    if len(rates) > 1:
        raise InputError("the runs have different false-alarm rates: repeat detect.py with one")
    names = f" ({' / '.join(kinds[0])})" if kinds[0] else ""
    rows: list[tuple[str, Callable[[Run], str | None]]] = [
        (f"image AUROC{names}", _image_auroc),
        ("pixel AUROC, AUPRO (0.3), AUPRO (0.05)", _pixel_figures),
        (f"flagged at the threshold for {100 * rates.pop():g} %: good images, defective ones",
         _flagged),
        ("poses within 1 degree and 0.02 units", _poses_found),
        ("pose error, median (worst)", _pose_errors),
        ("PSNR of held-out views: whole image, inside the silhouette", _quality),
        ("training (calibration comes on top)", _training),
        ("a query, file to verdict", _query),
    ]  # fmt: skip
    lines = [["", *(run.heading for run in runs)], ["---"] * (1 + len(runs))]
    for name, value in rows:
        cells = [value(run) for run in runs]
        if any(cells):  # a row of which no file knows anything is left out
            lines.append([name, *(cell or "-" for cell in cells)])
    commits = dict.fromkeys(str(run.settings["commit"])[:12] for run in runs)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{text}\n\nMeasured at commit {', '.join(commits)}."


def _image_auroc(run: Run) -> str | None:
    if run.summary["image_auroc"] is None:
        return None
    kinds = " / ".join(f"{kind['image_auroc']:.3f}" for kind in run.summary["kinds"].values())
    return f"{run.summary['image_auroc']:.3f}" + f" ({kinds})" * bool(kinds)


def _pixel_figures(run: Run) -> str | None:
    figures = [run.summary[name] for name in ("pixel_auroc", "aupro", "aupro_0.05")]
    if None in figures:
        return None
    return "{:.4f}, {:.3f}, {:.3f}".format(*figures)


def _flagged(run: Run) -> str | None:
    if run.summary["n_false_alarms"] is None:
        return None
    labels = run.summary["kinds"]
    flags = [bool(image["is_anomalous"]) for image in run.images if image["label"] in labels]
    good = f"{run.summary['n_false_alarms']} of {run.summary['n_good']}"
    return f"{good}, {sum(flags)} of {len(flags)}"


def _poses_found(run: Run) -> str | None:
    if "pose" not in run.summary:
        return None
    known = sum(image["rotation_error_deg"] is not None for image in run.images)
    return f"{run.summary['pose']['n_within_1deg_and_0.02']} of {known}"


def _pose_errors(run: Run) -> str | None:
    pose = run.summary.get("pose")
    if pose is None or pose["rotation_deg_median"] is None:
        return None
    return (
        f"{pose['rotation_deg_median']:.3f} ({pose['rotation_deg_max']:.2f}) degrees, "
        f"{pose['translation_median']:.4f} ({pose['translation_max']:.4f}) units"
    )


def _quality(run: Run) -> str | None:
    quality = run.trained["held_out_quality"]
    figures = [quality[name] for name in ("psnr", "psnr_object") if quality[name] is not None]
    return ", ".join(f"{figure:.1f} dB" for figure in figures) or None


def _training(run: Run) -> str:
    settings = run.trained["settings"]
    of = f"{settings['iterations']:,} iterations, {_threads(settings['threads'])}"
    return f"{run.trained['training_seconds']:.0f} s ({of})"


def _query(run: Run) -> str | None:
    seconds = run.summary["seconds"]
    if seconds["total"] is None:
        return None
    stages = ", ".join(f"{stage} {seconds[stage]:.2f}" for stage in ("coarse", "refine", "score"))
    return f"{seconds['total']:.2f} s ({stages}; {_threads(run.settings['threads'])})"


def _threads(count: int | None) -> str:
    if count is None:
        return "all cores"
    return "one thread" if count == 1 else f"{count} threads"


def main(config: ReadmeConfig) -> int:
    """Writes or checks the table; returns the exit status. Raises InputError."""
    text = config.readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{config.readme} lacks the lines '{BEGIN}' and '{END}': add them")
    table = make_table([read_run(argument) for argument in config.run])
    wanted = f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
    if wanted == text:
        print(f"{config.readme} shows these figures")
        return 0
    if config.check:
        lines = difflib.unified_diff(
            text.splitlines(), wanted.splitlines(), str(config.readme), "the runs", lineterm=""
        )
        print("\n".join(lines))
        return 1
    with atomic_write(config.readme, "w") as file:
        file.write(wanted)
    print(table)
    return 0


if __name__ == "__main__":
    run_script(lambda: sys.exit(main(tyro.cli(ReadmeConfig, description=__doc__))))
