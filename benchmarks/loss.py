"""Times the fused photometric loss against PyTorch's convolutions, with gradients.

python -m benchmarks.loss --size 400 --json out.json
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.common import interleave, machine, peak_memory_mib, report, summary
from gaussian_renderer.cpu import fused_photometric_loss
from gaussian_renderer.losses import photometric_loss_reference


@dataclass
class Config:
    size: int = 400  # pixels of both sides
    channels: int = 3
    threads: int = 1  # of the kernel and of PyTorch
    repeats: int = 60  # after one to warm up
    json: Path | None = None  # where the figures go as JSON


def run(config: Config) -> dict[str, Any]:
    """Times both losses in turn and returns what is written as JSON."""
    torch.set_num_threads(config.threads)
    shape = (config.channels, config.size, config.size)
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(shape, generator=generator)
    image = (target + 0.1 * torch.randn(shape, generator=generator)).requires_grad_()

    def fused() -> None:
        image.grad = None
        fused_photometric_loss(image, target, threads=config.threads).backward()

    def convolutions() -> None:
        image.grad = None
        photometric_loss_reference(image, target).backward()

    times = interleave({"fused": fused, "convolutions": convolutions}, config.repeats)
    ratio = min(times["convolutions"].cpu) / min(times["fused"].cpu)
    return {
        "machine": machine(config.threads),
        "workload": {"shape": list(shape)},
        "figures": {name: summary(values) for name, values in times.items()},
        "ratios": {"convolutions_to_fused": round(ratio, 1)},
        "peak_memory_mib": peak_memory_mib(),
    }


def main(config: Config) -> None:
    """Runs the benchmark, prints the figures and writes them."""
    result = run(config)
    report(result, config.json)
    print("  ".join(f"{name} {value}" for name, value in result["ratios"].items()))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
