"""One training: what it is given, and its state between two iterations. The loop is in train.py."""

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer import GaussianAdam, ObjectRenderer
from scene import (
    Capture,
    DensifyStatistics,
    Gaussians,
    TrainImages,
    View,
    atomic_write,
    checked_pose,
    damage_named,
    read_json,
    split_holdout,
)

from .presets import TrainingPreset


@dataclass(frozen=True)
class Training:
    """What is optimised, and how."""

    capture: Capture
    views: tuple[View, ...]  # to train on
    images: TrainImages  # of these views
    preset: TrainingPreset
    seed: int
    device: torch.device
    backend: str
    threads: int
    checkpoint_every: int = sys.maxsize

    @property
    def background(self) -> Tensor:
        """[3]; black where the capture has no plain background, as in 3DGS."""
        return torch.tensor(self.capture.background or (0.0, 0.0, 0.0), device=self.device)

    def alphas(self) -> list[Tensor | None]:
        """[H, W] in 0..255 of each image that is to be put before random colours, else None."""
        if not self.preset.random_background or self.images.alphas is None:
            return [None] * len(self.views)
        return [None if a is None else a.to(self.device) for a in self.images.alphas]

    def renderer(self, gaussians: Gaussians) -> ObjectRenderer:
        """A model of this training, to be rendered as it was trained."""
        return ObjectRenderer(gaussians, self.background, self.backend, self.threads)


def views_at(views: tuple[View, ...], path: Path) -> tuple[View, ...]:
    """The views at the poses that train_poses.json keeps. Raises InputError if it is damaged."""
    remedy = "train the model again with --overwrite"
    stored = read_json(path, remedy)
    with damage_named(path, remedy):
        poses = {
            view.name: checked_pose(stored[view.name], f"{path}, {view.name}") for view in views
        }
    return tuple(replace(view, camera=view.camera.at(poses[view.name])) for view in views)


def split_training(
    training: Training, every: int, first: int | None = None
) -> tuple[Training, Training]:
    """Views to train on, and held-out views, each with their images; none held out for 0."""
    if not every:
        return training, subset(training, ())
    kept, held_out = split_holdout(training.views, every, first)
    return subset(training, kept), subset(training, held_out)


def subset(training: Training, views: tuple[View, ...]) -> Training:
    """The same training on some of its views."""
    number = {view.name: i for i, view in enumerate(training.views)}
    chosen = [number[view.name] for view in views]
    stored = training.images
    images = TrainImages(
        [stored.colours[i] for i in chosen],
        None if stored.silhouettes is None else [stored.silhouettes[i] for i in chosen],
        None if stored.alphas is None else [stored.alphas[i] for i in chosen],
    )
    return replace(training, views=views, images=images)


def on_random_background(
    target: Tensor,  # [3, H, W], composited on `background`
    alpha: Tensor,  # [H, W], 0..255
    background: Tensor,  # [3]
    seed: int,
) -> tuple[Tensor, Tensor]:
    """The image before another colour, uniform in the RGB cube, and that colour [3].

    Before one colour alone, Gaussians of that colour around the object cost nothing: a halo grows,
    and covers the rim in other views. No Gaussian looks like every colour.
    """
    colour = torch.rand(3, generator=torch.Generator().manual_seed(seed)).to(target.device)
    clear = (1 - alpha.float() / 255)[None]  # [1, H, W]
    without = target - clear * background[:, None, None]
    return without + clear * colour[:, None, None], colour


@torch.no_grad()
def held_out_quality(model: ObjectRenderer, held_out: Training) -> dict[str, float | None]:
    """Mean PSNR over held-out views: of the whole image, and inside the silhouettes."""
    whole, inside = [], []
    images, silhouettes = held_out.images.floats(held_out.device), held_out.images.silhouettes
    for number, (view, image) in enumerate(zip(held_out.views, images, strict=True)):
        shown = model(view.camera).image
        whole.append(psnr(shown, image))
        if silhouettes is not None and silhouettes[number].any():
            inside.append(psnr(shown, image, silhouettes[number].to(shown.device)))
    return {
        "psnr": sum(whole) / len(whole) if whole else None,
        "psnr_object": sum(inside) / len(inside) if inside else None,
    }


def psnr(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio, dB, of [3, H, W] images, inside `mask` [H, W] if given."""
    squared = (image.clamp(0.0, 1.0) - target).square()
    mse = squared.mean() if mask is None else squared[:, mask].mean()
    return -10 * math.log10(max(float(mse), 1e-12))


@dataclass
class Checkpoint:
    """What changes from one iteration to the next; random draws depend on seed and iteration."""

    iteration: int  # iterations done
    gaussians: Gaussians
    optimiser: GaussianAdam
    statistics: DensifyStatistics  # what has been gathered since the last growth
    seconds: float  # wall clock spent so far


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes one .npz atomically; an older checkpoint stays until the new one is complete."""
    arrays: dict[str, np.ndarray] = {
        "iteration": np.array(checkpoint.iteration),
        "steps": np.array(checkpoint.optimiser.steps),
        "seconds": np.array(checkpoint.seconds),
    }
    clouds = {
        "parameter": checkpoint.gaussians,
        "first": checkpoint.optimiser.first,
        "second": checkpoint.optimiser.second,
    }
    for prefix, cloud in clouds.items():
        for name, tensor in cloud.named_tensors().items():
            arrays[f"{prefix}.{name}"] = tensor.detach().cpu().numpy()
    for name, tensor in vars(checkpoint.statistics).items():
        arrays[f"statistics.{name}"] = tensor.detach().cpu().numpy()
    with atomic_write(path) as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint:
    """Reads what `save_checkpoint` wrote. Raises InputError if the file is broken."""
    with damage_named(path, "delete it to start the run anew"):
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
        if not all(array.isfinite().all() for array in arrays.values()):
            raise ValueError("it holds NaN or infinity")
        clouds = {
            prefix: Gaussians(**_group(arrays, prefix, device))
            for prefix in ("parameter", "first", "second")
        }
        optimiser = GaussianAdam(clouds["parameter"])
        optimiser.steps = int(arrays["steps"])
        optimiser.first, optimiser.second = clouds["first"], clouds["second"]
        return Checkpoint(
            iteration=int(arrays["iteration"]),
            gaussians=clouds["parameter"],
            optimiser=optimiser,
            # by name: checkpoints of older versions hold radii too
            statistics=DensifyStatistics(
                arrays["statistics.score_sum"].to(device), arrays["statistics.count"].to(device)
            ),
            seconds=float(arrays["seconds"]),
        )


def _group(arrays: dict[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    """The arrays called `prefix`.<name>, by name."""
    return {
        name.removeprefix(prefix + "."): tensor.to(device)
        for name, tensor in arrays.items()
        if name.startswith(prefix + ".")
    }
