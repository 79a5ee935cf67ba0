"""The figures of all finished jobs, as flat records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.paper.jobs import Job, headline, results_path
from benchmarks.paper.table import Spread, spread
from scene import read_json

SCORES = ("image_auroc", "pixel_auroc", "aupro")


@dataclass(frozen=True)
class Record:
    """What one finished job measured."""

    job: Job
    results: dict[str, Any]  # the content of its results.json

    @property
    def own(self) -> dict[str, Any] | None:
        """Summary with the method's own refinement; None when the job measured poses alone."""
        name = "own" if self.job.preset is None else headline(self.job.method).name
        return self.results["detections"].get(name)

    def seconds(self, stage: str) -> float | None:
        """Median seconds per image with the method's own refinement."""
        return None if self.own is None else self.own["seconds"][stage]


Value = Callable[[Record], float | None]


def score_of(name: str, variant: str | None = None) -> Value:
    """Reads one of SCORES in per cent, of a variant or (None) of the method's own refinement."""

    def value(record: Record) -> float | None:
        return per_cent(record.results["detections"][variant] if variant else record.own, name)

    return value


def seconds_of(stage: str) -> Value:
    """Reads the median seconds of a stage, with the method's own refinement."""
    return lambda record: record.seconds(stage)


def per_cent(summary: dict[str, Any] | None, name: str) -> float | None:
    """A score of a summary in per cent, where there is one."""
    if summary is None or summary[name] is None:
        return None
    return 100 * float(summary[name])


def load_records(jobs: Sequence[Job], root: Path) -> list[Record]:
    """The finished ones among the jobs, in their order."""
    return [
        Record(job, read_json(results_path(job, root))) for job in jobs if job.is_finished(root)
    ]


def mean_over_classes(records: Sequence[Record], value: Value) -> Spread | None:
    """Mean over classes per seed, then mean and deviation over seeds.

    Only seeds for which every class has a value count; where there is no such seed, the mean of
    what there is, without a deviation.
    """
    found = {(r.job.class_name, r.job.seed): value(r) for r in records}
    known = {key: figure for key, figure in found.items() if figure is not None}
    if not known:
        return None
    classes = {name for name, _ in known}
    means = []
    for seed in sorted({seed for _, seed in known}):
        of_seed = [known[name, seed] for name in classes if (name, seed) in known]
        if len(of_seed) == len(classes):
            means.append(sum(of_seed) / len(of_seed))
    if not means:
        return Spread(sum(known.values()) / len(known), None, 1)
    return spread(means)


def named(records: Sequence[Record], **wanted: Any) -> list[Record]:
    """The records whose jobs have these values."""
    return [r for r in records if all(getattr(r.job, k) == v for k, v in wanted.items())]


def distinct(records: Sequence[Record], name: str) -> list[Any]:
    """The values of one property of the jobs, in the order of their first appearance."""
    return list(dict.fromkeys(getattr(record.job, name) for record in records))
