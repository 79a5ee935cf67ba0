"""Which backends run on this machine, whether they agree with the reference, and how fast they are.

    python -m benchmarks.gpu --json out/gpu.json                      # the GPU
    python -m benchmarks.gpu --device cpu --gaussians 2000            # the same without one
    python -m benchmarks.gpu --model out/quickstart                   # queries a second as well

Every backend is timed on random scenes of the given numbers of Gaussians: milliseconds of a
forward and a backward pass and of a pose step, training iterations a second. With a trained model,
its queries a second, one by one and in batches. A backend that raises is named, and the others go
on.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from benchmarks.common import machine
from detect import DetectConfig, detect
from gaussian_renderer import (
    BACKENDS,
    GaussianAdam,
    LearningRates,
    photometric_loss,
    pose_normal_equations,
    refusal,
    render,
    renders_many,
)
from pipeline.command_line import run as run_script
from scene import Camera, Gaussians, InputError, write_json


@dataclass
class Config:
    device: Literal["cuda", "cpu"] = "cuda"
    gaussians: tuple[int, ...] = (30_000, 100_000)  # sizes of the random scenes
    size: int = 400  # pixels of both sides of the image
    repeats: int = 20  # of everything, after three to warm up
    backends: tuple[str, ...] = ()  # names; none: all that can run
    model: Path | None = None  # folder of a trained model, for queries a second
    images: Path | None = None  # its queries, a file or a folder; none: those of its data set
    batch_sizes: tuple[int, ...] = (1, 16)  # of the queries
    json: Path | None = None  # where the figures go as JSON


def random_scene(count: int, size: int, device: str) -> tuple[Gaussians, Camera]:
    """A ball of small Gaussians that fills two thirds of the image."""
    g = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        means=0.4 * torch.randn(count, 3, generator=g),
        log_scales=-4.6 + 0.4 * torch.randn(count, 3, generator=g),
        quaternions=torch.randn(count, 4, generator=g),
        opacity_logits=torch.randn(count, generator=g),
        sh=0.4 * torch.randn(count, 4, 3, generator=g),
    ).map(lambda tensor: tensor.to(device))
    view = torch.eye(4, dtype=torch.float64)
    view[2, 3] = 3.0
    return gaussians, Camera(view, 1.1 * size, 1.1 * size, size / 2, size / 2, size, size)


def milliseconds(function: Callable[[], Any], device: str, repeats: int) -> dict[str, float]:
    """Median, minimum and maximum of the wall clock, the device waited for."""
    times = []
    for turn in range(repeats + 3):
        _wait(device)
        begin = time.perf_counter()
        function()
        _wait(device)
        if turn >= 3:
            times.append(1e3 * (time.perf_counter() - begin))
    figures = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    return {name: round(value, 3) for name, value in figures.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def time_scene(backend: str, count: int, config: Config) -> dict[str, Any]:
    """Times of one backend on one random scene."""
    gaussians, camera = random_scene(count, config.size, config.device)
    leaves = gaussians.map(torch.clone).requires_grad_()
    parameters = list(leaves.named_tensors().values())
    background = torch.ones(3, device=config.device)
    target = render(gaussians, camera, background, backend=backend).image.detach() * 0.9
    optimiser, still = GaussianAdam(leaves), LearningRates(means=0.0).scaled(0.0)

    def image() -> Tensor:
        return render(leaves, camera, background, backend=backend).image

    def forward() -> None:
        with torch.no_grad():
            image()

    def both() -> None:
        torch.autograd.grad(image(), parameters, target)

    def iteration() -> None:
        photometric_loss(image(), target, backend=backend).backward()
        optimiser.step(leaves, still)

    def pose() -> None:
        pose_normal_equations(gaussians, camera, target, background, backend=backend)

    tasks = {"forward_ms": forward, "forward_backward_ms": both, "pose_step_ms": pose,
             "iteration_ms": iteration}  # fmt: skip
    figures: dict[str, Any] = {
        name: milliseconds(task, config.device, config.repeats) for name, task in tasks.items()
    }
    figures["iterations_per_second"] = round(1e3 / figures.pop("iteration_ms")["median"], 2)
    return figures


def queries_per_second(backend: str, config: Config) -> dict[str, float]:
    """Of a trained model, from the file to the score, by size of batch."""
    assert config.model is not None
    rates = {}
    for size in config.batch_sizes:
        if size > 1 and not renders_many(backend, config.device):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = detect(
                DetectConfig(
                    config.model, images=config.images, output=Path(folder), backend=backend,
                    device=config.device, batch_size=size,
                )
            )  # fmt: skip
        images = found.results["images"]
        seconds = sum(image["seconds"]["total"] for image in images if image["seconds"])
        rates[f"batch_{size}"] = round(len(images) / seconds, 3)
    return rates


def measure(backend: str, config: Config) -> dict[str, Any]:
    """All figures of one backend, or why it has none."""
    if backend not in BACKENDS:
        raise InputError(f"unknown backend '{backend}': choose from {', '.join(BACKENDS)}")
    if why := refusal(backend, config.device):
        return {"check": why}
    result: dict[str, Any] = {"check": "agrees" if BACKENDS[backend].checked else "trusted"}
    try:
        for count in config.gaussians:
            result[f"{count}_gaussians"] = time_scene(backend, count, config)
        if config.model is not None:
            result["queries_per_second"] = queries_per_second(backend, config)
    except RuntimeError as error:  # of a foreign package, out of memory: the others go on
        result["error"] = str(error)
    return result


def run(config: Config) -> dict[str, Any]:
    """Measures every backend; what is there is printed and written after each."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch sees no GPU: python doctor.py says why; --device cpu runs here")
    name = torch.cuda.get_device_name() if config.device == "cuda" else "CPU"
    result: dict[str, Any] = {"device": name, "machine": machine(torch.get_num_threads())}
    names = [name for name in BACKENDS if name != "reference"]
    for backend in config.backends or names:
        result[backend] = measure(backend, config)
        for what, figures in result[backend].items():
            print(f"{backend:10s} {what:20s} {figures}", flush=True)
        if config.json is not None:
            write_json(config.json, result)
    return result


if __name__ == "__main__":
    run_script(lambda: run(tyro.cli(Config, description=__doc__)))
