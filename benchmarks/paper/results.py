"""The figures of all finished jobs as a data frame, and the notes that belong under a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.paper.plan import Job, headline, results_path
from benchmarks.table import STD, pd
from pipeline.presets import TRAINING
from scene import read_json
from train import TrainConfig

SCORES = {"image AUROC": "image_auroc", "pixel AUROC": "pixel_auroc", "AUPRO": "aupro"}
STAGES = ("coarse", "refine", "score", "total")
_ERRORS = {"translation": "", "rotation_rad": " (rad)"}  # and the unit in a heading


class Results(NamedTuple):
    """What the finished jobs have measured."""

    detections: pd.DataFrame  # a row per job and way to refine poses; scores in per cent
    poses: pd.DataFrame  # a row per job and stage, coarse or final
    views: dict[str, list[str]]  # names of the train views, by job

    @classmethod
    def load(cls, jobs: Sequence[Job], root: Path) -> "Results":
        """Those of the finished ones among the jobs. Raises InputError."""
        found = {job: read_json(results_path(job, root)) for job in jobs if job.is_finished(root)}
        detections = [row for job, each in found.items() for row in _detection_rows(job, each)]
        poses = [row for job, each in found.items() for row in _pose_rows(job, each)]
        views = {job.id: each["views"] for job, each in found.items()}
        numbers = dict.fromkeys((*SCORES, *STAGES, "training", "calibration"), float)
        frame = pd.DataFrame(detections)
        return cls(frame.astype(numbers) if detections else frame, pd.DataFrame(poses), views)


def _job_columns(job: Job, results: dict[str, Any]) -> dict[str, Any]:
    """What a row says of its job."""
    hardware, settings = results["hardware"], results["settings"]
    machine = f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores"
    return {
        "class": job.class_name, "method": job.method, "preset": job.preset, "seed": job.seed,
        "share": job.share, "trained": _length(job, results), "commit": _short(results["commit"]),
        "machine": f"{machine}, {settings['threads']} thread(s) a job",
    }  # fmt: skip


def _detection_rows(job: Job, results: dict[str, Any]) -> list[dict[str, Any]]:
    own = "own" if job.preset is None else headline(job.method).name
    rows = []
    for variant, summary in results["detections"].items():
        scores = {name: summary[key] for name, key in SCORES.items()}
        rows.append(
            _job_columns(job, results)
            | {"variant": variant, "own": variant == own, "images": summary["n_images"]}
            | {name: None if score is None else 100 * score for name, score in scores.items()}
            | {stage: summary["seconds"][stage] for stage in STAGES}
            | {"training": results["training_seconds"],
               "calibration": results.get("calibration_seconds"),
               "notes": "; ".join(summary.get("notes", []))}
        )  # fmt: skip
    return rows


def _pose_rows(job: Job, results: dict[str, Any]) -> list[dict[str, Any]]:
    poses = results["poses"]
    rows = []
    for stage in ("coarse", "final") if poses else ():
        errors = {
            f"{kind.partition('_')[0]} {figure}{unit}": poses[stage][kind][figure]
            for kind, unit in _ERRORS.items()
            for figure in ("mean", "median", "worst")
        }
        seconds = poses["seconds"]["coarse" if stage == "coarse" else "refine"]
        rows.append(
            _job_columns(job, results)
            | {"split": poses["split"], "images": poses["n_images"], "stage": stage}
            | errors
            | {"% within 1 degree and 0.02": 100 * poses[stage]["found"], "seconds": seconds}
        )
    return rows


def spread(name: str, values: pd.Series) -> dict[str, float]:
    """Mean and sample standard deviation of the known values, NaN where there is none."""
    return {name: values.mean(), name + STD: values.std()}


def mean_over_classes(name: str, frame: pd.DataFrame, column: str) -> dict[str, float]:
    """Mean over classes per seed, then mean and deviation over seeds.

    Only seeds for which every class has a value count; where there is no such seed, the mean of
    what there is, without a deviation.
    """
    known = frame.dropna(subset=[column])
    by_seed = known.pivot_table(values=column, index="seed", columns="class", aggfunc="last")
    complete = by_seed.dropna()
    if complete.empty:
        return {name: known[column].mean(), name + STD: float("nan")}
    return spread(name, complete.mean(axis=1))


def notes(frame: pd.DataFrame) -> list[str]:
    """What a reader must know of detections: seeds, parts that ran, share of the views."""
    seeds = frame["seed"].nunique()
    found = [f"Mean ± sample standard deviation over {seeds} seeds."]
    if seeds == 1:
        found = ["One seed: no standard deviation."]
    of_methods = frame[frame["own"] & (frame["notes"] != "")].groupby("method", sort=False)
    found += [f"{method}: {note}." for method, note in of_methods["notes"].last().items()]
    if frame["share"].nunique() == 1 and frame["share"].iloc[0] != 1:
        found.append(f"Trained on {100 * frame['share'].iloc[0]:g} % of the views.")
    return [*found, *provenance_notes(frame)]


def provenance_notes(frame: pd.DataFrame) -> list[str]:
    """Length of the trainings, hardware and commits of the jobs."""
    trained = sorted(frame["trained"].dropna().unique())
    commits = frame.groupby("machine")["commit"].unique()
    return trained + [
        f"Run on: {machine}; commit {', '.join(sorted(found))}."
        for machine, found in commits.items()
    ]


def _length(job: Job, results: dict[str, Any]) -> str | None:
    """How long a model was trained; a shortened training is called one. None for a baseline."""
    if job.preset is None:
        return None
    count, usual = results["iterations"], TRAINING[job.preset].iterations
    text = f"{job.method}: trained for {count} iterations"
    if count != usual:
        text += f" instead of {usual}"
    pixels = results["settings"]["resolution"]
    if pixels != TrainConfig.resolution:
        text += f", at {pixels} pixels instead of {TrainConfig.resolution}"
    return text + "."


def _short(commit: str | None) -> str:
    """Twelve digits, and the + of changes on top."""
    return "unknown" if commit is None else commit[:12] + "+" * commit.endswith("+")
