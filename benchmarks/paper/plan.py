"""From the axes of a grid to jobs, as plain data, and whether a job is finished."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.presets import DETECTION, TRAINING
from scene import InputError, read_capture, read_json
from scene.readers.folders import class_name, find_capture_folder, folders_in

ANOMALIB = "anomalib-"  # before the name that anomalib gives a model
_ANOMALIB_MODELS = (
    "padim", "patchcore", "reverse_distillation", "cfa", "stfpm", "cflow", "csflow", "draem",
)  # fmt: skip
BASELINES = tuple(ANOMALIB + name for name in _ANOMALIB_MODELS)
PAPER_STEPS = 175
TEST_SPLIT = "test split"  # of a Blender scene: there Table 4 is measured on it
POSES_HOLDOUT = 10  # every n-th train view is held out where only Table 4 needs it
_OURS = "splatpose-"


@dataclass(frozen=True)
class Settings:
    """What all jobs of a benchmark share; None takes the preset's value."""

    iterations: int | None
    max_gaussians: int | None
    holdout_every: int | None
    checkpoint_every: int
    resolution: int
    matcher: str | None
    features: str | None
    weights: str | None
    backend: str
    device: str
    threads: int
    keep_maps: bool


@dataclass(frozen=True)
class Variant:
    """One way to refine the poses of the queries."""

    refine: Literal["auto", "lm", "adam"]
    steps: int  # of Adam

    @property
    def name(self) -> str:
        """Folder of its detections."""
        return f"adam{self.steps}" if self.refine == "adam" else self.refine


@dataclass(frozen=True)
class Job:
    """One training and everything that is measured with the model."""

    class_name: str
    source: str  # absolute path of the capture
    method: str  # splatpose-default, splatpose-paper, or one of BASELINES
    seed: int
    share: float  # of the train views
    variants: tuple[Variant, ...] = ()  # detections on the test images; baselines have none
    poses: bool = False  # pose errors for Table 4
    holdout_every: int | None = None  # instead of the settings'

    @property
    def id(self) -> str:
        """Name of its folder."""
        extra = "" if self.holdout_every is None else f"-holdout{self.holdout_every}"
        return f"{self.class_name}-{self.method}-seed{self.seed}-views{self.share:g}{extra}"

    @property
    def preset(self) -> Literal["default", "paper"] | None:
        """Preset of our method; None for a baseline."""
        if self.method.startswith(_OURS):
            return "paper" if self.method == f"{_OURS}paper" else "default"
        return None

    def is_finished(self, root: Path) -> bool:
        """Whether the folder of the benchmark holds everything that this job is to measure.

        Raises InputError when what it holds was measured on other data of the same name.
        """
        path = results_path(self, root)
        if not path.is_file():
            return False
        found = read_json(path)
        if found["job"]["source"] != self.source:
            raise InputError(
                f"'{path}' was measured on {found['job']['source']}, not on {self.source}: choose "
                "another --name"
            )
        wanted = {variant.name for variant in self.variants} or set(found["detections"])
        return wanted <= set(found["detections"]) and not (self.poses and found["poses"] is None)


def results_path(job: Job, root: Path) -> Path:
    """Where a finished job keeps its figures."""
    return root / job.id / "results.json"


def headline(method: str) -> Variant:
    """The preset's own refinement: what Tables 1, 2, 3 and 5 show."""
    return Variant(DETECTION[method.removeprefix(_OURS)].refine, PAPER_STEPS)


@dataclass(frozen=True)
class Axes:
    """The grid."""

    sources: tuple[Path, ...]  # captures
    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    steps: tuple[int, ...]
    methods: tuple[str, ...]
    detections: bool  # all tables but the fourth
    poses: bool  # Table 4


def plan(axes: Axes, settings: Settings) -> list[Job]:
    """All jobs of the grid, in the order in which they are run.

    Poses are measured by the job that has all views (or the largest share). A preset that holds no
    view out needs a training of its own for them, done with the first seed only; Blender scenes
    have a test split with true poses and need none.
    """
    jobs = []
    for source in axes.sources:
        name = class_name(source)
        for method in axes.methods:
            for seed in axes.seeds:
                for share in axes.shares:
                    has_poses = axes.poses and share == max(axes.shares)
                    job = Job(name, str(source.resolve()), method, seed, share)
                    jobs += _with_work(job, axes, settings, has_poses)
    return jobs


def _with_work(job: Job, axes: Axes, settings: Settings, has_poses: bool) -> list[Job]:
    if job.preset is None:
        return [job] if axes.detections else []
    asked = (headline(job.method), *(Variant("adam", steps) for steps in axes.steps))
    variants = tuple(dict.fromkeys(asked)) if axes.detections else ()
    shared = has_poses and _has_held_out(job, settings)
    jobs = [replace(job, variants=variants, poses=shared)] if variants or shared else []
    if has_poses and not shared and job.seed == axes.seeds[0]:
        jobs.append(replace(job, poses=True, holdout_every=POSES_HOLDOUT))
    return jobs


def _has_held_out(job: Job, settings: Settings) -> bool:
    """Whether the ordinary training leaves images with known poses that it has not seen."""
    every = settings.holdout_every
    if every is None and job.preset is not None:
        every = TRAINING[job.preset].holdout_every
    return bool(every) or read_capture(job.source, settings.resolution).format == "blender"


def find_sources(folders: tuple[Path, ...], classes: tuple[str, ...]) -> tuple[Path, ...]:
    """Captures named by `folders`: each is one, or a folder of classes (all, or those named).

    Raises InputError when a folder or class is not there, or two have the same name.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir() or _is_capture(folder):
            found.append(find_capture_folder(folder))
        elif classes:
            found += [find_capture_folder(folder / name) for name in classes]
        else:
            found += [inside for inside in folders_in(folder) if _is_capture(inside)]
    if not found:
        places = ", ".join(f"'{folder}'" for folder in folders)
        raise InputError(
            f"no captures in {places}: name a capture, or a folder of classes, with -s"
        )
    names = [class_name(path) for path in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two captures are called {name}: benchmark them under two --name")
    return tuple(found)


def _is_capture(folder: Path) -> bool:
    marks = ("transforms.json", "transforms_train.json", "sparse")
    return any((folder / mark).exists() for mark in marks)
