"""Learns a 3D Gaussian model of a defect-free object from posed photographs.

    python train.py -s MAD-Sim/Gorilla                    -> out/Gorilla
    python train.py -s data/brick_dog -m out/brick_dog --threads 2
    python train.py -s MAD-Sim/Gorilla --preset paper     the paper's settings

A killed run goes on where it was: give the same command again.
"""

import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from gaussian_renderer.backends import choose_device
from gaussian_renderer.object_renderer import ObjectRenderer
from pipeline.calibrate import calibrate
from pipeline.command_line import run
from pipeline.finished import Trained, check_world, write_config
from pipeline.folds import check_folds, cross_fit, fold_folder
from pipeline.model_folder import ModelFolder, save_cameras
from pipeline.optimise import Optimisation, optimise, read_views
from pipeline.presets import TRAINING, PresetName, TrainingPreset
from pipeline.threads import use_threads
from pose_estimation.train_poses import refine_train_poses
from scene import (
    Capture,
    InputError,
    View,
    read_capture,
    read_json,
    split_holdout,
    subset_views,
    write_json,
)

_ITERATIONS = 500  # of a training that corrects poses
# Settings that a user may give and that the preset gives otherwise.
_FROM_PRESET = ("iterations", "sh_degree", "max_gaussians")


@dataclass(frozen=True)
class TrainConfig:
    """Every knob of a training run; None takes the preset's value (pipeline/presets.py)."""

    source: Annotated[Path, tyro.conf.arg(aliases=["-s"])]
    """Folder of the object: MAD, MIP, RAD, Blender (NeRF-synthetic) or COLMAP format."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["-m"])] = None
    """Folder to write the model to; default: out/<name of the source folder>."""
    preset: PresetName = "default"
    """`paper`: the paper's settings. `default`: faster and better (docs/performance.md)."""
    iterations: int | None = None
    """Optimisation steps, one view each; default 3,000 (paper: 30,000)."""
    sh_degree: int | None = None
    """Degree of the view-dependent colour, 0 to 3; default 3 (paper: 0)."""
    max_gaussians: int | None = None
    """Cap on the number of Gaussians; default 35,000 (paper: none)."""
    holdout_every: int | None = None
    """Every n-th train view is kept out of training for calibration; 0 keeps none out. The
    default is every tenth, more often of fewer than 100 views, never more than every fourth."""
    holdout_first: int | None = None
    """Number of the first view kept out, counted from 0; default: the middle of the first n."""
    folds: int = 0
    """So many further trainings, each without another part of the views, so that the threshold
    stands on the scores of all views: with 99 or more, 1 percent is counted, not extrapolated."""
    refine_poses: bool = False
    """Correct the given train poses first, by short trainings: for poses that are off by pixels."""
    views_fraction: float = 1.0
    """Share of the train views to use, drawn with the seed (the paper's Table 5)."""
    resolution: int = 400
    """Longer side of the images, pixels; larger images are reduced, smaller ones kept."""
    seed: int = 0
    """The same seed gives the same bits on the CPU, for any number of threads."""
    backend: str = "auto"
    """auto, cpu, triton, gsplat, graphdeco or reference."""
    device: str = "auto"
    """auto (a GPU where there is one and it can be used), cpu, or cuda."""
    threads: int = 1
    """CPU threads."""
    checkpoint_every: int = 1000
    """Iterations between two checkpoints."""
    overwrite: bool = False
    """Replace a model that was trained with other settings."""

    def resolved(self) -> "TrainConfig":
        """This configuration with the preset's values in every field left None.

        What to keep out is left to `with_holdout`. Raises InputError for values out of range.
        """
        preset = TRAINING[self.preset]
        values = {n: getattr(preset, n) for n in _FROM_PRESET if getattr(self, n) is None}
        config = replace(self, model=self.folder, **values)
        _check(config)
        return config

    def with_holdout(self, count: int) -> "TrainConfig":
        """The same with `holdout_every` for so many views, unless it is given."""
        if self.holdout_every is not None:
            return self
        return replace(self, holdout_every=TRAINING[self.preset].holdout_of(count))

    @property
    def folder(self) -> Path:
        """The model folder."""
        return self.model or Path("out") / self.source.resolve().name

    def of_fold(self, fold: int) -> "TrainConfig":
        """The training that leaves out one of the folds."""
        model = fold_folder(ModelFolder(self.folder), fold)
        return replace(
            self, model=model, holdout_every=self.folds, holdout_first=fold, folds=0,
            overwrite=False,
        )  # fmt: skip

    def recipe(self) -> TrainingPreset:
        """The preset with the values of a resolved configuration in place of its own."""
        values = {n: getattr(self, n) for n in (*_FROM_PRESET, "holdout_every")}
        return replace(TRAINING[self.preset], **values)

    def as_json(self) -> dict[str, Any]:
        """The configuration as JSON values, the source as an absolute path."""
        values = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
        }
        return values | {"source": str(self.source.resolve())}


# What decides the result; a run resumes, or is found finished, only if these are the same.
_IDENTITY = (
    "preset", *_FROM_PRESET, "holdout_every", "holdout_first", "refine_poses", "views_fraction",
    "resolution", "seed", "source",
)  # fmt: skip


def train(config: TrainConfig) -> Path:
    """Trains one object and returns its finished model folder.

    Raises InputError for anything that the user can mend.
    """
    config = config.resolved()
    use_threads(config.threads, config.backend)
    folder = ModelFolder(config.folder)
    capture = read_capture(config.source, config.resolution)
    chosen = subset_views(capture.views, config.views_fraction, config.seed)
    config = config.with_holdout(len(chosen))
    check_folds(config.folds, len(chosen))
    with folder.lock():
        _train_one(folder, config, capture, chosen)
        if config.folds:
            cross_fit(folder, config.folds, lambda fold: train(config.of_fold(fold)))
    return folder.root


def _train_one(
    folder: ModelFolder, config: TrainConfig, capture: Capture, chosen: tuple[View, ...]
) -> None:
    """One model, or what is missing of it."""
    device, words = choose_device(config.device, config.backend)
    settings = config.as_json()
    finished = _is_finished(folder, settings, config.overwrite)
    if finished:
        check_world(folder, capture)
    if finished and folder.is_calibration_current():
        print(f"{folder.root} is already trained with these settings: nothing to do")
        return
    if not finished:
        write_json(folder.settings_path, settings)
    if config.refine_poses:
        everything = _optimisation(config, capture, chosen, device)
        chosen = _at_corrected_poses(everything, folder.train_poses_path)
    views, held_out = _split(chosen, config)
    print(f"{capture.name}: {len(views)} train views, {len(held_out)} kept out; {words}")
    optimisation = _optimisation(config, capture, views, device)
    if finished:
        print("the calibration is of an older version or damaged: it is renewed, as is the gallery")
        gaussians = folder.load_gaussians(optimisation.preset.iterations)
        gaussians = gaussians.map(lambda t: t.to(device).contiguous())
        calibrate(folder, gaussians, held_out, optimisation, config.preset)
        return
    gaussians, seconds = optimise(optimisation, folder)
    folder.save_gaussians(gaussians, optimisation.preset.iterations)
    save_cameras(views, folder.root / "cameras.json")
    quality = calibrate(folder, gaussians, held_out, optimisation, config.preset)
    trained = Trained(views, held_out, len(gaussians), quality, seconds)
    write_config(folder, capture, settings, trained)
    print(f"model: {folder.root}  ({len(gaussians)} Gaussians, {seconds:.0f} s)")


def _optimisation(
    config: TrainConfig, capture: Capture, views: tuple[View, ...], device: torch.device
) -> Optimisation:
    return Optimisation(
        capture=capture,
        views=views,
        preset=config.recipe(),
        seed=config.seed,
        device=device,
        backend=config.backend,
        threads=config.threads,
        checkpoint_every=config.checkpoint_every,
    )


def _at_corrected_poses(run: Optimisation, path: Path) -> tuple[View, ...]:
    """All views of `run` at corrected poses, kept in `path` (JSON) for a resumed run."""
    preset = replace(run.preset, iterations=min(_ITERATIONS, run.preset.iterations))

    def train_briefly(views: tuple[View, ...]) -> ObjectRenderer:
        with tempfile.TemporaryDirectory() as scratch:
            trial = replace(run, views=views, preset=preset, checkpoint_every=sys.maxsize)
            gaussians, _ = optimise(trial, ModelFolder(Path(scratch)))
        return ObjectRenderer(gaussians, run.background, run.backend, run.threads)

    if not path.is_file():
        found = refine_train_poses(run.views, read_views(run.capture, run.views), train_briefly)
        poses = {view.name: view.camera.world_to_camera.tolist() for view in found}
        write_json(path, poses)
    stored = read_json(path)
    return tuple(
        replace(v, camera=v.camera.at(torch.tensor(stored[v.name], dtype=torch.float64)))
        for v in run.views
    )


def _check(config: TrainConfig) -> None:
    """Raises InputError for the first value that is out of range."""
    if config.iterations is not None and config.iterations < 1:
        raise InputError(f"--iterations must be at least 1, not {config.iterations}")
    if config.sh_degree not in (0, 1, 2, 3):
        raise InputError(f"--sh-degree must be 0, 1, 2 or 3, not {config.sh_degree}")
    if config.holdout_every not in (None, 0, *range(2, 1_000_000)):
        raise InputError(f"--holdout-every must be 0 or at least 2, not {config.holdout_every}")
    first, every = config.holdout_first, config.holdout_every
    if first is not None and not (every and 0 <= first < every):
        raise InputError(
            f"--holdout-first {first} needs --holdout-every with a larger number, not {every}"
        )
    if not 0 < config.views_fraction <= 1:
        raise InputError(f"--views-fraction must lie in (0, 1], not {config.views_fraction}")
    if config.resolution < 16:
        raise InputError(f"--resolution must be at least 16 pixels, not {config.resolution}")
    if config.threads < 1 or config.checkpoint_every < 1:
        raise InputError("--threads and --checkpoint-every must be at least 1")


def _is_finished(folder: ModelFolder, settings: dict[str, Any], overwrite: bool) -> bool:
    """Whether this very run has ended already; clears the folder of another one if allowed.

    Raises InputError when the folder holds a run with other settings.
    """
    if overwrite:
        folder.clear()
        return False
    for path in (folder.config_path, folder.settings_path):
        if path.is_file():
            stored = read_json(path)
            stored = stored.get("settings", stored)
            # An older version did not know every setting: then the default was what it did.
            known = {name: getattr(TrainConfig, name, None) for name in _IDENTITY} | stored
            differing = [name for name in _IDENTITY if known[name] != settings[name]]
            if differing:
                name = differing[0]
                raise InputError(
                    f"'{folder.root}' holds a run with other settings ({name}: {known[name]}, "
                    f"now {settings[name]}): choose another folder with -m, or add --overwrite"
                )
    return folder.is_finished()


def _split(
    views: tuple[View, ...], config: TrainConfig
) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """Views to train on, and views kept out for calibration."""
    if not config.holdout_every:
        return views, ()
    return split_holdout(views, config.holdout_every, config.holdout_first)


def main() -> None:
    """Command line."""
    run(
        lambda: train(tyro.cli(TrainConfig, description=__doc__)),
        "the same command goes on from the last checkpoint",
    )


if __name__ == "__main__":
    main()
