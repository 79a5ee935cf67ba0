"""Times the CPU kernels, each beside PyTorch's way in the same run.

    python -m benchmarks.kernels --scene scene.ply --camera camera.json --json out.json

Rendering, gradients, pose equations, a whole training iteration and the loss. Rendering alone
(colour, depth and alpha in one pass, no gradients) is also timed at the sizes of
`--inference-sizes`. The camera file holds world_to_camera (4 x 4, OpenCV axes), fx, width, height.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks.common import interleave, machine, peak_memory_mib, report, spread, summary
from gaussian_renderer import (
    GaussianAdam,
    LearningRates,
    photometric_loss,
    pose_normal_equations,
    render,
)
from gaussian_renderer.cpu.rasteriser import saved_state
from scene import Camera, DensifyStatistics, Gaussians, load_ply, read_json

STAGES = ("project", "bin_sort", "blend", "blend_backward", "project_backward")


@dataclass
class Config:
    scene: Path  # a PLY of 3DGS
    camera: Path  # JSON: world_to_camera, fx, width, height
    size: int = 0  # longer side of the image in pixels; 0: as in the camera file
    sh_degree: int = 0  # the scene's colours are padded with zeros up to this degree
    inference_sizes: tuple[int, ...] = (400, 800)  # pixels of the longer side
    threads: int = 1  # of the kernel and of PyTorch
    repeats: int = 40  # of every task, after one to warm up
    reference_repeats: int = 1  # of the PyTorch reference; 0: leave it out
    json: Path | None = None  # where the figures go as JSON


def read_camera(path: Path, size: int) -> Camera:
    """The camera of a benchmark scene, its longer side `size` pixels unless that is 0."""
    values = read_json(path)
    camera = Camera(
        torch.tensor(values["world_to_camera"], dtype=torch.float64),
        values["fx"], values["fx"], values["width"] / 2, values["height"] / 2,
        values["width"], values["height"],
    )  # fmt: skip
    if not size:
        return camera
    scale = size / max(camera.width, camera.height)
    return camera.resized(round(camera.width * scale), round(camera.height * scale))


def padded(gaussians: Gaussians, degree: int) -> Gaussians:
    """The same cloud with zero coefficients up to an SH degree, where it has fewer."""
    terms = max(gaussians.sh.shape[1], (degree + 1) ** 2)
    gaussians.sh = torch.nn.functional.pad(
        gaussians.sh, (0, 0, 0, terms - gaussians.sh.shape[1])
    ).contiguous()
    return gaussians


class Workload:
    """What is timed: every task works on the same cloud, camera and cotangent."""

    def __init__(self, gaussians: Gaussians, camera: Camera, threads: int) -> None:
        self.leaves, self.frozen = gaussians.requires_grad_(), gaussians.detach()
        self.camera, self.threads = camera, threads
        self.white = torch.ones(3)
        self.optimiser = GaussianAdam(self.frozen)
        self.statistics = DensifyStatistics.zeros(len(gaussians))
        self.still = LearningRates(means=0.0).scaled(0.0)  # every turn finds the same scene
        g = torch.Generator().manual_seed(0)
        image = self.inference().image
        self.cotangent = torch.randn(image.shape, generator=g)
        self.target = (image + 0.05 * self.cotangent).clamp(0.0, 1.0)
        self.image = (self.target + 0.1 * torch.randn(image.shape, generator=g)).requires_grad_()
        self.stages: list[list[float]] = []

    def inference(self, depth: bool = False, camera: Camera | None = None) -> Any:
        """Colour, alpha and, if asked for, depth without gradients."""
        with torch.no_grad():
            return render(
                self.frozen, camera or self.camera, self.white,
                backend="cpu", depth=depth, threads=self.threads,
            )  # fmt: skip

    def forward_backward(self, backend: str = "cpu") -> None:
        """One rendering and the gradients of all raw parameters."""
        out = render(self.leaves, self.camera, self.white, backend=backend, threads=self.threads)
        gradients = list(self.leaves.named_tensors().values())
        if backend == "cpu":
            state = saved_state(out.image)
        torch.autograd.grad(out.image, gradients, self.cotangent)
        if backend == "cpu":
            self.stages.append([1e3 * s for s in state.seconds])

    def iteration(self) -> None:
        """Render, loss, backward, statistics of growth, Adam."""
        out = render(self.leaves, self.camera, self.white, backend="cpu", threads=self.threads)
        photometric_loss(out.image, self.target, threads=self.threads).backward()
        assert out.screen.grad is not None
        size = (self.camera.width, self.camera.height)
        self.statistics.update(out.screen.grad, out.radii, *size)
        self.optimiser.step(self.leaves, self.still, self.threads)

    def normal_equations(self) -> None:
        """One linearisation of the rendering about its pose."""
        pose_normal_equations(
            self.frozen, self.camera, self.target, self.white, backend="cpu", threads=self.threads
        )

    def loss(self, backend: str) -> Tensor:
        """The photometric loss of two images, and its gradient."""
        loss = photometric_loss(self.image, self.target, backend=backend, threads=self.threads)
        return torch.autograd.grad(loss, self.image)[0]


def run(config: Config) -> dict[str, Any]:
    """Times everything and returns what is written as JSON."""
    torch.set_num_threads(config.threads)
    camera = read_camera(config.camera, config.size)
    work = Workload(padded(load_ply(config.scene), config.sh_degree), camera, config.threads)
    tasks: dict[str, Callable[[], object]] = {
        "inference": work.inference,
        "inference_with_depth": lambda: work.inference(depth=True),
        "forward_backward": work.forward_backward,
        "training_iteration": work.iteration,
        "normal_equations": work.normal_equations,
        "loss": lambda: work.loss("cpu"),
        "loss_by_convolutions": lambda: work.loss("reference"),
    }
    views = {
        f"inference_with_depth_{size}": read_camera(config.camera, size)
        for size in config.inference_sizes
    }
    for name, view in views.items():
        tasks[name] = functools.partial(work.inference, depth=True, camera=view)
    times = interleave(tasks, config.repeats)
    figures = {name: summary(values) for name, values in times.items()}
    for name in ("inference", "inference_with_depth", *views):
        figures[name]["frames_per_second"] = round(1e3 / figures[name]["min_ms"], 1)
    for stage, values in zip(STAGES, zip(*work.stages, strict=True), strict=True):
        figures[f"stage_{stage}"] = spread(list(values))
    least = {name: figure.get("min_cpu_ms", 0.0) for name, figure in figures.items()}
    both = least["forward_backward"]
    ratios = {
        "normal_equations_to_forward_backward": round(least["normal_equations"] / both, 2),
        "convolutions_to_loss": round(least["loss_by_convolutions"] / least["loss"], 1),
    }
    if config.reference_repeats:
        slow = interleave(
            {"reference": lambda: work.forward_backward("reference")}, config.reference_repeats
        )
        figures["reference_forward_backward"] = summary(slow["reference"])
        ratios["reference_to_cpu"] = round(min(slow["reference"].cpu) / both, 1)
    return {
        "machine": machine(config.threads),
        "workload": {
            "scene": config.scene.name, "gaussians": len(work.frozen), "channels": 3,
            "sh_degree": work.frozen.sh_degree, "width": camera.width, "height": camera.height,
        },
        "figures": figures,
        "ratios": ratios,
        "peak_memory_mib": peak_memory_mib(),
    }  # fmt: skip


def main(config: Config) -> None:
    """Runs the benchmark, prints the figures and writes them."""
    result = run(config)
    report(result, config.json)
    print("  ".join(f"{name} {value}" for name, value in result["ratios"].items()))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
