"""The training loop: render, compare, step, grow."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer import photometric_loss, render
from gaussian_renderer.contribution import largest_contribution
from gaussian_renderer.object_renderer import ObjectRenderer
from gaussian_renderer.optimiser import GaussianAdam, LearningRates, shrink_view_dependence
from scene import (
    Capture,
    Gaussians,
    GrowthPolicy,
    GrowthStatistics,
    InputError,
    View,
    prune,
    read_image,
    scene_extent,
)

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .model_folder import ModelFolder
from .presets import TrainingPreset
from .start import growth_policy, start_gaussians, starting_hull

_REPORT_EVERY = 20  # iterations between two updates of the progress bar
_LOG_EVERY = 100  # iterations between two lines of metrics.jsonl
_SHRINK_EVERY = 10  # iterations between two shrinkings of the view-dependent colour
_WHITE = 0.98  # a background brighter than this is white for the opacity reset of 3DGS


@dataclass(frozen=True)
class Optimisation:
    """What is optimised, and how."""

    capture: Capture
    views: tuple[View, ...]  # to train on
    preset: TrainingPreset
    seed: int
    device: torch.device
    backend: str
    threads: int
    checkpoint_every: int

    @property
    def background(self) -> Tensor:
        """[3]; black where the capture has no plain background, as in 3DGS."""
        return torch.tensor(self.capture.background or (0.0, 0.0, 0.0), device=self.device)


def read_views(capture: Capture, views: tuple[View, ...]) -> list[Tensor]:
    """The views' images as bytes, uint8 [3, H, W] each: a quarter of the memory of floats."""
    background = capture.background or (0.0, 0.0, 0.0)
    images = []
    for view in views:
        size = (view.camera.width, view.camera.height)
        image = read_image(view.image_path, size, background)
        images.append(image.mul_(255).round_().to(torch.uint8))
    return images


def optimise(
    run: Optimisation,
    folder: ModelFolder,
    observe: Callable[[int, Gaussians, float], None] | None = None,
) -> tuple[Gaussians, float]:
    """Trains, or goes on from the folder's checkpoint; returns the Gaussians and the seconds.

    `observe(iteration, gaussians, seconds)` is called with every line of metrics.jsonl; the time
    that it takes is not counted.
    """
    images = read_views(run.capture, run.views)
    state, policy, extent = _prepare(run, folder, images)
    targets = [image.to(run.device) for image in images]
    background = run.background
    started = time.monotonic() - state.seconds
    total = run.preset.iterations
    bar = tqdm(total=total, initial=state.iteration, unit="it", file=sys.stderr, mininterval=0.5)
    with bar, folder.metrics(state.iteration) as log:
        for iteration in range(state.iteration + 1, total + 1):
            number = _view_at(iteration, len(run.views), run.seed)
            target = targets[number].float().div_(255)
            rates = _rates(run.preset, extent, iteration)
            image, loss = _step(run, state, run.views[number], target, background, rates)
            if iteration % _SHRINK_EVERY == 0:
                decay = run.preset.colour_decay(len(run.views))
                shrink_view_dependence(state.gaussians, _SHRINK_EVERY * rates.sh_rest * decay)
            _grow(run, state, policy, iteration)
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
            if iteration % run.checkpoint_every == 0 or iteration == total:
                state.seconds = time.monotonic() - started
                save_checkpoint(state, folder.checkpoint_path)
    gaussians = _without_unseen(run, state.gaussians.detach())
    return gaussians, time.monotonic() - started


def _without_unseen(run: Optimisation, gaussians: Gaussians) -> Gaussians:
    """Without what next to nothing of is seen in any train view: it would only cost time.

    Raises InputError when that is everything.
    """
    if not run.preset.smallest_contribution:
        return gaussians
    cameras = [view.camera for view in run.views]
    model = ObjectRenderer(gaussians, run.background, run.backend, run.threads)
    contribution = largest_contribution(model, cameras)
    unseen = contribution < run.preset.smallest_contribution
    if bool(unseen.all()):
        raise InputError(
            "Nothing of the object is left in the model: check that the pictures show it and that "
            "the poses are camera to world, in the axes of their format (docs/formats.md)"
        )
    return prune(gaussians, unseen)[0]


def _prepare(
    run: Optimisation, folder: ModelFolder, images: list[Tensor]
) -> tuple[Checkpoint, GrowthPolicy, float]:
    """First state (or the last one saved), growth policy, and extent of the scene."""
    started = time.monotonic()
    floats = [image.float().div_(255) for image in images]
    cameras = [view.camera for view in run.views]
    extent = scene_extent(cameras)
    hull = starting_hull(run.preset, run.capture, run.views, floats)
    is_white = min(run.capture.background or (0.0,)) > _WHITE
    policy = growth_policy(run.preset, extent, is_white, hull)
    if folder.checkpoint_path.is_file():
        state = load_checkpoint(folder.checkpoint_path, run.device)
        print(f"resumed at iteration {state.iteration}")
    else:
        gaussians = start_gaussians(
            run.preset, hull, run.capture, cameras, floats, run.seed, run.device
        )
        statistics = GrowthStatistics.zeros(len(gaussians), run.device)
        seconds = time.monotonic() - started
        state = Checkpoint(0, gaussians, GaussianAdam(gaussians), statistics, seconds)
    state.gaussians = state.gaussians.detach().requires_grad_()
    return state, policy, extent


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
    run: Optimisation,
    state: Checkpoint,
    view: View,
    target: Tensor,
    background: Tensor,
    rates: LearningRates,
) -> tuple[Tensor, Tensor]:
    """One rendering, one loss, one update; returns the image and the loss."""
    rendering = render(
        state.gaussians, view.camera, background, backend=run.backend, threads=run.threads
    )
    loss = photometric_loss(
        rendering.image, target, run.preset.ssim_weight, run.backend, run.threads
    )
    loss.backward()
    assert rendering.screen.grad is not None
    state.statistics.update(
        rendering.screen.grad, rendering.radii, view.camera.width, view.camera.height
    )
    state.optimiser.step(state.gaussians, rates, run.threads, run.preset.adam_betas)
    return rendering.image.detach(), loss.detach()


def _grow(run: Optimisation, state: Checkpoint, policy: GrowthPolicy, iteration: int) -> None:
    """Lets the policy change the cloud, and the optimiser follow."""
    policy.generator.manual_seed(run.seed * 1_000_003 + iteration)  # a resumed run draws the same
    growth = policy.grow(iteration, state.gaussians, state.statistics)
    if growth is None:
        return
    reset = ("opacity_logits",) if growth.forgets_opacity else ()
    state.optimiser.follow(growth.source, reset)
    state.gaussians = growth.gaussians.requires_grad_()
    state.statistics = GrowthStatistics.zeros(len(growth.gaussians), run.device)


def _figures(image: Tensor, loss: Tensor, target: Tensor, state: Checkpoint) -> dict[str, float]:
    mse = float((image.clamp(0.0, 1.0) - target).square().mean())
    return {
        "iteration": state.iteration,
        "loss": round(float(loss), 6),
        "psnr": round(-10 * math.log10(max(mse, 1e-12)), 3),
        "n_gaussians": len(state.gaussians),
    }
