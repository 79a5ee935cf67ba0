"""Learns a 3D Gaussian model of a defect-free object from posed photographs.

    python train.py -s MAD-Sim/Gorilla                    -> out/Gorilla
    python train.py -s data/brick_dog -m out/brick_dog
    python train.py -s MAD-Sim/Gorilla --preset paper     the paper's settings

A killed run goes on where it was: give the same command again. It ends by calling calibrate.py.
"""

import hashlib
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer import (
    GaussianAdam,
    LearningRates,
    ObjectRenderer,
    backend_help,
    choose_device,
    largest_contribution,
    photometric_loss,
    render,
    shrink_view_dependence,
)
from pipeline.command_line import run, settle_threads
from pipeline.model_folder import ModelFolder, check_world, save_cameras, write_config
from pipeline.presets import TRAINING, PresetName, TrainingPreset
from pipeline.training import (
    Checkpoint,
    Training,
    held_out_quality,
    load_checkpoint,
    on_random_background,
    psnr,
    save_checkpoint,
    split_training,
    views_at,
)
from pose_estimation.train_poses import refine_train_poses
from report.training_pictures import TrainingPictures
from scene import (
    CappedDensify,
    Capture,
    DensifyPolicy,
    DensifyStatistics,
    Gaussians,
    InputError,
    PaperDensify,
    View,
    VisualHull,
    initial_gaussians,
    outside_hull,
    prune,
    read_capture,
    read_json,
    read_train_images,
    refuse_inside,
    refuse_standing_background,
    scene_extent,
    starting_hull,
    starting_points,
    subset_views,
    write_json,
)

_REPORT_EVERY = 20  # iterations between two updates of the progress bar
_LOG_EVERY = 100  # iterations between two lines of metrics.jsonl
_SHRINK_EVERY = 10  # iterations between two shrinkings of the view-dependent colour
_WHITE = 0.98  # a background brighter than this is white for the opacity reset of 3DGS
_POSE_ITERATIONS = 500  # of a training that corrects poses
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
    """Every n-th train view is held out: the threshold comes from these views. 0 holds none out,
    and then there are no verdicts (paper's default). Default: every tenth, more often of fewer
    than 100 views, never more than every fourth."""
    folds: int = 0
    """5-fold calibration (--folds 5): five extra models give every view a held-out score. From 99
    views on, the 1 % threshold is then an empirical quantile, not an extrapolation."""
    refine_poses: bool = False
    """Correct the input poses first, by short trainings: for poses that are off by pixels."""
    views_fraction: float = 1.0
    """Share of the train views to use, drawn with the seed (the paper's Table 5)."""
    resolution: int = 400
    """Longer side of the images, pixels; larger images are reduced, smaller ones kept."""
    seed: int = 0
    """The same seed gives the same bits on the CPU, for any number of threads."""
    backend: Annotated[str, tyro.conf.arg(help=backend_help())] = "auto"
    device: str = "auto"
    """auto (a GPU where there is one and it can be used), cpu, or cuda."""
    threads: int | None = None
    """CPU threads; default: all cores. The result is the same for any number."""
    checkpoint_every: int = 1000
    """Iterations between two checkpoints."""
    view: int = 0
    """Write a picture every n iterations, into progress/ of the model folder: three train views,
    the model's rendering of each, and four times the difference. 0: none."""
    overwrite: bool = False
    """Replace a model that was trained with other settings."""

    def resolved(self) -> "TrainConfig":
        """This configuration with the preset's values in every field left None.

        What to hold out is left to `with_holdout`. Raises InputError for values out of range.
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
_VIEWS = "views_sha256"
_IDENTITY = (
    "preset", *_FROM_PRESET, "holdout_every", "refine_poses", "views_fraction", "resolution",
    "seed", "source",
)  # fmt: skip


def train(config: TrainConfig) -> Path:
    """Trains one object, calibrates it, and returns its finished model folder.

    Raises InputError for anything that the user can fix.
    """
    # calibrate.py trains models without a fold by `optimise` below, so it is imported late.
    from calibrate import CalibrateConfig, calibrate, check_folds

    config = config.resolved()
    threads = settle_threads(config.threads, config.backend)
    folder = ModelFolder(config.folder)
    capture = read_capture(config.source, config.resolution)
    refuse_inside(folder.root, capture.root, "-m")
    chosen = subset_views(capture.views, config.views_fraction, config.seed)
    config = config.with_holdout(len(chosen))
    check_folds(config.folds, len(chosen))
    settings = config.as_json() | {_VIEWS: _digest(chosen)}
    with folder.lock():
        if _is_finished(folder, settings, config.overwrite):
            check_world(folder, capture)
            print(f"{folder.root} is already trained with these settings")
        else:
            write_json(folder.settings_path, settings)
            _train(config, folder, capture, chosen, threads, settings)
    wanted = CalibrateConfig(
        folder.root, folds=config.folds or None, backend=config.backend, device=config.device,
        threads=threads,
    )  # fmt: skip
    calibrate(wanted, if_needed=True)
    return folder.root


def _train(
    config: TrainConfig, folder: ModelFolder, capture: Capture, chosen: tuple[View, ...],
    threads: int, settings: dict[str, Any],
) -> None:  # fmt: skip
    """One model, from the chosen views to config.json, which keeps the settings."""
    device, why = choose_device(config.device, config.backend)
    training = Training(
        capture, chosen, read_train_images(capture, chosen), config.recipe(), config.seed, device,
        config.backend, threads, config.checkpoint_every,
    )  # fmt: skip
    if training.images.silhouettes is None:
        refuse_standing_background([v.camera for v in chosen], training.images.colours)
    if config.refine_poses:
        training = replace(training, views=_at_corrected_poses(training, folder.train_poses_path))
    training, held_out = split_training(training, config.holdout_every or 0)
    print(
        f"{capture.name}: {len(training.views)} train views, {len(held_out.views)} held out; {why}"
    )
    pictures = None
    if config.view:
        pictures = TrainingPictures(
            folder.progress_path, config.view, [view.camera for view in training.views],
            training.images.colours, training.renderer,
        )  # fmt: skip
    gaussians, seconds = optimise(training, folder, pictures=pictures)
    folder.save_gaussians(gaussians, training.preset.iterations)
    save_cameras(training.views, folder.root / "cameras.json")
    figures = {
        "n_gaussians": len(gaussians),
        "held_out_quality": held_out_quality(training.renderer(gaussians), held_out),
        "training_seconds": seconds,
    }
    write_config(folder, capture, settings, training.views, held_out.views, figures)
    print(f"model: {folder.root}  ({len(gaussians)} Gaussians, {seconds:.0f} s)")


def optimise(
    training: Training,
    folder: ModelFolder,
    observe: Callable[[int, Gaussians, float], None] | None = None,
    pictures: TrainingPictures | None = None,
) -> tuple[Gaussians, float]:
    """THE LOOP: trains, or goes on from the folder's checkpoint; the Gaussians and the seconds.

    `observe(iteration, gaussians, seconds)` is called with every line of metrics.jsonl; the time
    that it and `pictures` take is not counted.
    """
    preset, views, seed = training.preset, training.views, training.seed
    state, policy, extent = _start(training, folder)
    targets = [image.to(training.device) for image in training.images.colours]
    alphas, plain, total = training.alphas(), training.background, preset.iterations
    started = time.monotonic() - state.seconds
    bar = tqdm(total=total, initial=state.iteration, unit="it", file=sys.stderr, mininterval=0.5)
    with bar, folder.metrics(state.iteration) as log:
        for iteration in range(state.iteration + 1, total + 1):
            number = _view_at(iteration, len(views), seed)
            target, background, alpha = targets[number].float().div_(255), plain, alphas[number]
            if alpha is not None:
                draw = seed * 1_000_003 + iteration  # also of a resumed run
                target, background = on_random_background(target, alpha, plain, draw)
            rates = _rates(preset, extent, iteration)
            image, loss = _step(training, state, views[number], target, background, rates)
            if iteration % _SHRINK_EVERY == 0:
                decay = preset.colour_decay(len(views))
                shrink_view_dependence(state.gaussians, _SHRINK_EVERY * rates.sh_rest * decay)
            _densify(training, state, policy, iteration)
            state.iteration = iteration
            if iteration % _REPORT_EVERY == 0 or iteration == total:
                figures = _figures(image, loss, target, state)
                bar.set_postfix_str(
                    f"loss {figures['loss']:.4f}, PSNR {figures['psnr']:.1f} dB, "
                    f"{figures['n_gaussians']} Gaussians"
                )
                bar.update(iteration - bar.n)
                if iteration % _LOG_EVERY == 0 or iteration == total:
                    spent = time.monotonic() - started
                    log(figures | {"seconds": round(spent, 3)})
                    if observe is not None:
                        observe(iteration, state.gaussians.detach(), spent)
                        started = time.monotonic() - spent
            if pictures is not None and pictures.is_due(iteration, total):
                spent = time.monotonic() - started
                pictures.write(iteration, state.gaussians)
                started = time.monotonic() - spent
            if iteration % training.checkpoint_every == 0 or iteration == total:
                state.seconds = time.monotonic() - started
                save_checkpoint(state, folder.checkpoint_path)
    gaussians = _without_unseen(training, state.gaussians.detach())
    return gaussians, time.monotonic() - started


def _start(training: Training, folder: ModelFolder) -> tuple[Checkpoint, DensifyPolicy, float]:
    """First state (or the last one saved), densified policy, and extent of the scene."""
    started = time.monotonic()
    capture, views, preset = training.capture, training.views, training.preset
    cameras = [view.camera for view in views]
    extent = scene_extent(cameras)
    hull = starting_hull(capture, cameras, training.images) if preset.start == "hull" else None
    is_white = min(capture.background or (0.0,)) > _WHITE
    policy = _densify_policy(preset, extent, is_white, hull)
    if folder.checkpoint_path.is_file():
        state = load_checkpoint(folder.checkpoint_path, training.device)
        print(f"resumed at iteration {state.iteration}")
    else:
        points = starting_points(
            capture, cameras, training.images, hull, preset.max_gaussians, preset.random_points,
            training.seed, preset.start == "hull", training.threads,
        )  # fmt: skip
        gaussians = initial_gaussians(
            *points, preset.sh_degree, preset.start_opacity, training.device
        ).map(lambda t: t.to(training.device).contiguous())
        statistics = DensifyStatistics.zeros(len(gaussians), training.device)
        seconds = time.monotonic() - started
        state = Checkpoint(0, gaussians, GaussianAdam(gaussians), statistics, seconds)
    state.gaussians = state.gaussians.detach().requires_grad_()
    return state, policy, extent


def _densify_policy(
    preset: TrainingPreset,
    extent: float,
    is_white: bool,
    hull: VisualHull | None,
) -> DensifyPolicy:
    """The policy of a preset, its schedule stretched to the number of iterations.

    The generator is seeded anew before every densification, so that a resumed run draws
    what an undisturbed one draws.
    """
    generator = torch.Generator()
    if preset.growth == "paper":
        return PaperDensify(extent, generator, white_background=is_white)

    def is_outside(means: Tensor) -> Tensor:
        return outside_hull(hull, means) if hull is not None else torch.zeros_like(means[:, 0]) > 0

    return CappedDensify(
        cap=preset.max_gaussians or sys.maxsize,
        extent=extent,
        generator=generator,
        start=round(preset.growth_span[0] * preset.iterations),
        stop=round(preset.growth_span[1] * preset.iterations),
        every=preset.growth_every,
        dense_share=preset.dense_share,
        is_outside=is_outside,
    )


def _view_at(iteration: int, count: int, seed: int) -> int:
    """Which view an iteration sees: a new random order for every pass over the views."""
    epoch, place = divmod(iteration - 1, count)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return int(torch.randperm(count, generator=generator)[place])


def _rates(preset: TrainingPreset, extent: float, iteration: int) -> LearningRates:
    """Learning rates of one iteration; the positions' decays exponentially, as in 3DGS."""
    progress = iteration / preset.iterations
    first, last = preset.rates.means, preset.last_position_rate
    position = math.exp((1 - progress) * math.log(first) + progress * math.log(last))
    others = preset.rates.scaled(preset.rate_decay**progress)
    return replace(others, means=position * extent)


def _step(
    training: Training,
    state: Checkpoint,
    view: View,
    target: Tensor,
    background: Tensor,
    rates: LearningRates,
) -> tuple[Tensor, Tensor]:
    """One rendering, one loss, one update; returns the image and the loss."""
    backend, threads = training.backend, training.threads
    rendering = render(state.gaussians, view.camera, background, backend=backend, threads=threads)
    ssim_weight = training.preset.ssim_weight
    loss = photometric_loss(rendering.image, target, ssim_weight, backend, threads)
    loss.backward()
    assert rendering.screen.grad is not None
    state.statistics.update(
        rendering.screen.grad, rendering.radii, view.camera.width, view.camera.height
    )
    state.optimiser.step(state.gaussians, rates, threads, training.preset.adam_betas)
    return rendering.image.detach(), loss.detach()


def _densify(training: Training, state: Checkpoint, policy: DensifyPolicy, iteration: int) -> None:
    """Lets the policy change the cloud, and the optimiser follow."""
    policy.generator.manual_seed(training.seed * 1_000_003 + iteration)  # also of a resumed run
    densified = policy.densify(iteration, state.gaussians, state.statistics)
    if densified is None:
        return
    reset = ("opacity_logits",) if densified.forgets_opacity else ()
    state.optimiser.follow(densified.source, reset)
    state.gaussians = densified.gaussians.requires_grad_()
    state.statistics = DensifyStatistics.zeros(len(densified.gaussians), training.device)


def _figures(image: Tensor, loss: Tensor, target: Tensor, state: Checkpoint) -> dict[str, float]:
    return {
        "iteration": state.iteration,
        "loss": round(float(loss), 6),
        "psnr": round(psnr(image, target), 3),
        "n_gaussians": len(state.gaussians),
    }


def _without_unseen(training: Training, gaussians: Gaussians) -> Gaussians:
    """Without what next to nothing of is seen in any train view: it would only cost time.

    Raises InputError when that is everything.
    """
    if not training.preset.smallest_contribution:
        return gaussians
    cameras = [view.camera for view in training.views]
    contribution = largest_contribution(training.renderer(gaussians), cameras)
    unseen = contribution < training.preset.smallest_contribution
    if bool(unseen.all()):
        raise InputError(
            "Nothing of the object is left in the model: check that the images show it and that "
            "the poses are camera to world, in the axes of their format (docs/formats.md)"
        )
    return prune(gaussians, unseen)[0]


def _at_corrected_poses(training: Training, path: Path) -> tuple[View, ...]:
    """All views at corrected poses, which are kept in `path` (JSON) for a resumed run."""
    preset = replace(training.preset, iterations=min(_POSE_ITERATIONS, training.preset.iterations))

    def train_briefly(views: tuple[View, ...]) -> ObjectRenderer:
        with tempfile.TemporaryDirectory() as scratch:
            trial = replace(training, views=views, preset=preset, checkpoint_every=sys.maxsize)
            gaussians, _ = optimise(trial, ModelFolder(Path(scratch)))
        return training.renderer(gaussians)

    if not path.is_file():
        found = refine_train_poses(
            training.views, training.images.colours, training.images.silhouettes, train_briefly
        )
        poses = {view.name: view.camera.world_to_camera.tolist() for view in found}
        write_json(path, poses)
    return views_at(training.views, path)


def _check(config: TrainConfig) -> None:
    """Raises InputError for the first value that is out of range."""
    if config.iterations is not None and config.iterations < 1:
        raise InputError(f"--iterations must be at least 1, not {config.iterations}")
    if config.sh_degree not in (0, 1, 2, 3):
        raise InputError(f"--sh-degree must be 0, 1, 2 or 3, not {config.sh_degree}")
    if config.holdout_every not in (None, 0, *range(2, 1_000_000)):
        raise InputError(f"--holdout-every must be 0 or at least 2, not {config.holdout_every}")
    if not 0 < config.views_fraction <= 1:
        raise InputError(f"--views-fraction must lie in (0, 1], not {config.views_fraction}")
    if config.resolution < 16:
        raise InputError(f"--resolution must be at least 16 pixels, not {config.resolution}")
    if config.checkpoint_every < 1:
        raise InputError("--checkpoint-every must be at least 1")
    if config.view < 0:
        raise InputError(f"--view must be at least 1 iteration, or 0, not {config.view}")


def _digest(views: Sequence[View]) -> str:
    """Names and poses of views as SHA-256: a checkpoint belongs to these."""
    digest = hashlib.sha256()
    for view in views:
        digest.update(view.name.encode() + b"\0" + view.camera.world_to_camera.numpy().tobytes())
    return digest.hexdigest()


def _is_finished(folder: ModelFolder, settings: dict[str, Any], overwrite: bool) -> bool:
    """Whether this very run has ended already; clears the folder of another one if allowed.

    Raises InputError when the folder holds a run with other settings.
    """
    if overwrite:
        folder.clear()
        return False
    for path in (folder.config_path, folder.settings_path):
        if path.is_file():
            is_finished = path == folder.config_path
            stored = read_json(path, "restore it, or add --overwrite")
            stored = folder.load_config()["settings"] if is_finished else stored
            if not isinstance(stored, dict):
                raise InputError(f"'{path}' is damaged: restore it, or add --overwrite")
            if stored.get(_VIEWS, settings[_VIEWS]) != settings[_VIEWS]:  # older ones lack it
                raise InputError(
                    f"'{folder.root}' holds a run on other views: those of '{settings['source']}' "
                    "have changed since; choose another folder with -m, or add --overwrite"
                )
            # An older version did not know every setting: then the default was what it did.
            known = {name: getattr(TrainConfig, name, None) for name in _IDENTITY} | stored
            differing = [name for name in _IDENTITY if known[name] != settings[name]]
            if differing:
                name = differing[0]
                raise InputError(
                    f"'{folder.root}' holds a run with other settings ({name}: {known[name]}, "
                    f"now {settings[name]}): choose another folder with -m, or add --overwrite"
                )
    if folder.is_finished():
        folder.load_gaussians(settings["iterations"])  # raises where only training again helps
    return folder.is_finished()


def main() -> None:
    """Command line."""
    run(
        lambda: train(tyro.cli(TrainConfig, description=__doc__)),
        "the same command goes on from the last checkpoint",
    )


if __name__ == "__main__":
    main()
