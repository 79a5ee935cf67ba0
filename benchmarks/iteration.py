"""Times one whole training iteration, and its parts, beside the same with PyTorch's loss and Adam.

python -m benchmarks.iteration --scene PLY --camera JSON --threads 1 --json out.json
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks.common import interleave, machine, peak_memory_mib, report, summary
from gaussian_renderer import photometric_loss, render
from gaussian_renderer.losses import photometric_loss_reference
from gaussian_renderer.optimiser import GaussianAdam, LearningRates
from scene import Camera, Gaussians, GrowthStatistics, load_ply


@dataclass
class Config:
    scene: Path  # PLY in 3DGS's format
    camera: Path  # JSON: world_to_camera, fx, width, height
    sh_degree: int = 0  # the scene's colours are padded with zeros up to this degree
    threads: int = 1
    repeats: int = 40  # after one to warm up
    json: Path | None = None  # where the figures go as JSON


class Iteration:
    """What a training iteration works on."""

    def __init__(self, config: Config) -> None:
        self.threads = config.threads
        self.camera = read_camera(config.camera)
        self.gaussians = padded(load_ply(config.scene), config.sh_degree).requires_grad_()
        self.background = torch.ones(3)
        self.optimiser = GaussianAdam(self.gaussians)
        self.statistics = GrowthStatistics.zeros(len(self.gaussians))
        self.rates = LearningRates(means=0.0).scaled(0.0)  # every turn finds the same scene
        with torch.no_grad():
            image = self.shown().image
            noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
            self.target = (image + 0.05 * noise).clamp(0.0, 1.0)

    def shown(self) -> Any:
        """One rendering."""
        return render(self.gaussians, self.camera, self.background, threads=self.threads)

    def run(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Render, loss, backward, statistics of growth, Adam."""
        rendering = self.shown()
        loss(rendering.image, self.target).backward()
        size = (self.camera.width, self.camera.height)
        self.statistics.update(rendering.screen.grad, rendering.radii, *size)
        self.optimiser.step(self.gaussians, self.rates, self.threads)


def read_camera(path: Path) -> Camera:
    """The camera of a JSON file: `world_to_camera`, `fx`, `width`, `height`."""
    values = json.loads(path.read_text())
    width, height, focal = values["width"], values["height"], values["fx"]
    pose = torch.tensor(values["world_to_camera"], dtype=torch.float64)
    return Camera(pose, focal, focal, width / 2, height / 2, width, height)


def padded(gaussians: Gaussians, degree: int) -> Gaussians:
    """The same cloud with zero coefficients up to an SH degree."""
    sh = torch.zeros(len(gaussians), (degree + 1) ** 2, 3)
    sh[:, : gaussians.sh.shape[1]] = gaussians.sh[:, : sh.shape[1]]
    gaussians.sh = sh
    return gaussians.map(lambda tensor: tensor.contiguous())


def measure(config: Config) -> dict[str, Any]:
    """Times the iteration with the fused loss and with PyTorch's, in turn."""
    torch.set_num_threads(config.threads)
    work = Iteration(config)
    tasks: dict[str, Callable[[], object]] = {
        "iteration": lambda: work.run(
            lambda image, target: photometric_loss(image, target, threads=config.threads)
        ),
        "iteration, loss in PyTorch": lambda: work.run(photometric_loss_reference),
    }
    times = interleave(tasks, config.repeats)
    return {
        "figures": {name: summary(values) for name, values in times.items()},
        "machine": machine(config.threads),
        "n_gaussians": len(work.gaussians),
        "sh_degree": work.gaussians.sh_degree,
        "peak_mib": peak_memory_mib(),
    }


if __name__ == "__main__":
    config = tyro.cli(Config, description=__doc__)
    report(measure(config), config.json)
