"""Makes the paper's tables: classes x seeds x shares of the views x Adam steps x presets.

    pip install .[benchmarks]                       pandas, for the tables
    python benchmark.py -s MAD-Sim --seeds 5 --views 0.2 0.4 0.6 0.8 1.0 --steps 25 100 175 300
    python benchmark.py -s data/brick_dog --iterations 300 --dry-run
    python benchmark.py -s MAD-Sim --classes Gorilla Cat --methods splatpose anomalib-patchcore
    python benchmark.py --table 4 -s nerf_synthetic/lego data/brick_dog
    python benchmark.py -s MAD-Sim --engine ray --address 10.0.0.1:6379

Writes out/benchmark/<name>/tables/. What is finished is never run again: give the same command, or
one with a larger grid, and it goes on (docs/benchmarks.md).
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from anomaly import feature_names
from benchmarks.paper.plan import BASELINES, Axes, Job, Settings, find_sources, plan
from benchmarks.paper.run import Benchmark, Engine, run_benchmark
from gaussian_renderer import backend_help
from pipeline.command_line import run
from pose_estimation import matcher_names
from scene import InputError


@dataclass(frozen=True)
class BenchmarkConfig:
    """The grid, the settings that all jobs share, and who runs them."""

    source: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["-s"])]
    """Captures, or folders of captures."""
    classes: tuple[str, ...] = ()
    """Classes of a folder of captures; default: all that are there."""
    seeds: int = 1
    """Number of seeds: 0, 1, ..."""
    views: tuple[float, ...] = (1.0,)
    """Shares of the train views (Table 5)."""
    steps: tuple[int, ...] = ()
    """Numbers k of Adam steps (Figure 3), besides the preset's own refinement."""
    preset: tuple[Literal["default", "paper"], ...] = ("default",)
    """Presets of our method."""
    methods: tuple[str, ...] = ("splatpose",)
    """splatpose, and baselines: anomalib-patchcore, anomalib-padim and others of anomalib."""
    table: tuple[Literal[1, 2, 3, 4, 5], ...] = ()
    """Measure only what these tables need; default: all of them."""
    name: str | None = None
    """Name of the benchmark; default: that of the (first) source folder."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out/benchmark")
    """Folder of all benchmarks."""
    dry_run: bool = False
    """List the jobs and stop."""

    iterations: int | None = None
    """Iterations of training, instead of the presets'."""
    max_gaussians: int | None = None
    """Cap on the number of Gaussians, instead of the presets'."""
    holdout_every: int | None = None
    """Every n-th train view is held out, instead of the presets'."""
    checkpoint_every: int = 500
    """Iterations between two checkpoints."""
    resolution: int = 400
    """Longer side of the images, pixels."""
    matcher: Annotated[str | None, tyro.conf.arg(metavar="|".join(matcher_names()))] = None
    """Coarse pose, instead of the presets'."""
    features: Annotated[str | None, tyro.conf.arg(metavar="|".join(feature_names()))] = None
    """What is compared, instead of the presets'."""
    weights: Path | None = None
    """Folder with weight files."""
    backend: Annotated[str, tyro.conf.arg(help=backend_help())] = "auto"
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 1
    """CPU threads of a job."""
    keep_maps: bool = False
    """Keep the anomaly maps and overlays of every job (many gigabytes)."""

    engine: Literal["local", "ray"] = "local"
    """Processes on this machine, or Ray."""
    address: str | None = None
    """Address of a Ray cluster; default: one is started on this machine."""
    workers: int | None = None
    """Jobs at a time on this machine; default: cores / threads."""
    gpus: float = 0
    """Ray: GPUs that a job needs; 0.5 puts two jobs on one."""
    attempts: int = 3
    """How often a job is tried whose process dies."""

    def settings(self) -> Settings:
        """What all jobs share."""
        names = (field.name for field in fields(Settings) if field.name != "weights")
        weights = None if self.weights is None else str(self.weights.resolve())
        return Settings(weights=weights, **{name: getattr(self, name) for name in names})

    def axes(self) -> Axes:
        """The grid. Raises InputError for values out of range."""
        _check(self)
        return Axes(
            sources=find_sources(self.source, _flat(self.classes)),
            seeds=tuple(range(self.seeds)),
            shares=tuple(sorted(set(self.views))),
            steps=tuple(sorted(set(self.steps))),
            methods=_methods(self),
            detections=not self.table or any(number != 4 for number in self.table),
            poses=not self.table or 4 in self.table,
        )

    @property
    def root(self) -> Path:
        """Folder of this benchmark, absolute: workers may have other working directories."""
        return (self.output / (self.name or self.source[0].resolve().name)).resolve()


def benchmark(config: BenchmarkConfig) -> Benchmark:
    """Runs what is missing of the grid and writes the tables. Raises InputError."""
    settings, axes = config.settings(), config.axes()
    if config.dry_run:
        jobs = plan(axes, settings)
        _list(jobs, config.root)
        return Benchmark(config.root, jobs, {})
    workers = config.workers or max(1, _cores() // config.threads)
    engine = Engine(config.engine, workers, config.attempts, config.address, config.gpus)
    return run_benchmark(axes, settings, config.root, engine)


def _check(config: BenchmarkConfig) -> None:
    counts = {"seeds": config.seeds, "attempts": config.attempts, "threads": config.threads,
              "workers": config.workers or 1}  # fmt: skip
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"--{name} must be at least 1, not {count}")
    for share in config.views:
        if not 0 < share <= 1:
            raise InputError(f"--views must lie in (0, 1], not {share}")
    if any(steps < 1 for steps in config.steps):
        raise InputError("--steps must be at least 1")
    if config.address is not None and config.engine != "ray":
        raise InputError("--address is the address of a Ray cluster: add --engine ray")


def _methods(config: BenchmarkConfig) -> tuple[str, ...]:
    """Our method once per preset, and the baselines asked for."""
    names: list[str] = []
    for method in _flat(config.methods):
        if method == "splatpose":
            names += [f"splatpose-{preset}" for preset in config.preset]
        elif method in BASELINES:
            names.append(method)
        else:
            raise InputError(
                f"unknown method '{method}': choose from splatpose, {', '.join(BASELINES)}"
            )
    return tuple(dict.fromkeys(names))


def _flat(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that were given with spaces or with commas between them."""
    return tuple(part for name in names for part in name.split(",") if part)


def _cores() -> int:
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def _list(jobs: Sequence[Job], root: Path) -> None:
    for job in jobs:
        work = [variant.name for variant in job.variants] + ["poses"] * job.poses
        state = "finished" if job.is_finished(root) else "to do"
        print(f"{job.id:48} {state:9} {' '.join(work)}".rstrip())
    print(f"{len(jobs)} jobs in {root}")


def main() -> None:
    """Command line; status 1 when a job is not finished."""

    def script() -> None:
        config = tyro.cli(BenchmarkConfig, description=__doc__)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: tables are written
        if not benchmark(config).is_complete and not config.dry_run:
            sys.exit(1)

    run(script, "the same command goes on with what is left")


if __name__ == "__main__":
    main()
