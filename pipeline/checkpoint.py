"""State of an unfinished optimisation: everything needed to go on as if nothing had happened."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer.optimiser import GaussianAdam
from scene import Gaussians, GrowthStatistics, atomic_write, damage_named


@dataclass
class Checkpoint:
    """What changes from one iteration to the next; random draws depend on seed and iteration."""

    iteration: int  # iterations done
    gaussians: Gaussians
    optimiser: GaussianAdam
    statistics: GrowthStatistics  # what has been gathered since the last growth
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
            statistics=GrowthStatistics(**_group(arrays, "statistics", device)),
            seconds=float(arrays["seconds"]),
        )


def _group(arrays: dict[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    """The arrays called `prefix`.<name>, by name."""
    return {
        name.removeprefix(prefix + "."): tensor.to(device)
        for name, tensor in arrays.items()
        if name.startswith(prefix + ".")
    }
