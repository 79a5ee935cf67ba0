"""Quality against time: PSNR of held-out views for each preset and budget, as a table and a chart.

    python -m benchmarks.training -s data/brick_dog --json out/curve.json --chart out/curve.png
    python -m benchmarks.training -s data/brick_dog --presets default --iterations 500 1000 3000

Every budget is a run of its own (the schedule of `default` stretches to the budget), with every
tenth view held out. Seconds are wall clock: let nothing else run on the machine.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from pipeline.command_line import run
from pipeline.model_folder import ModelFolder, provenance
from pipeline.presets import PresetName
from scene import write_json
from train import TrainConfig, train

from .common import peak_memory_mib


@dataclass(frozen=True)
class TrainingBenchmark:
    """What is trained, and where the curves go."""

    source: Annotated[Path, tyro.conf.arg(aliases=["-s"])]
    """Folder of the object."""
    presets: tuple[PresetName, ...] = ("default", "paper")
    """Presets to compare."""
    iterations: tuple[int, ...] = (500, 1000, 2000, 3000)
    """Budgets of `default`."""
    paper_iterations: tuple[int, ...] = (2500, 7500, 15_000, 30_000)
    """Budgets of `paper`."""
    resolution: int = 400
    """Longer side of the images, pixels."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Of the runs."""
    json: Path | None = None
    """File for the figures."""
    chart: Path | None = None
    """File for the curves."""


def measure(config: TrainingBenchmark) -> dict[str, Any]:
    """Trains every preset and budget; returns points of (seconds, PSNR). Raises InputError."""
    points = []
    for preset in config.presets:
        budgets = config.iterations if preset == "default" else config.paper_iterations
        for budget in budgets:
            points.append(_point(config, preset, budget))
            print(points[-1], flush=True)
    return {
        "source": str(config.source),
        "threads": config.threads,
        "points": points,
        "peak_mib": peak_memory_mib(),
        **provenance(),
    }


def _point(config: TrainingBenchmark, preset: PresetName, iterations: int) -> dict[str, Any]:
    """Seconds of the optimisation alone, and what it led to."""
    with tempfile.TemporaryDirectory() as folder:
        model = train(
            TrainConfig(
                source=config.source, model=Path(folder) / "model", preset=preset,
                iterations=iterations, holdout_every=10, resolution=config.resolution,
                seed=config.seed, threads=config.threads, device="cpu",
                checkpoint_every=10**9,
            )
        )  # fmt: skip
        trained = ModelFolder(model).load_config()
    return {
        "preset": preset,
        "iterations": iterations,
        "seconds": round(trained["training_seconds"], 2),
        "n_gaussians": trained["n_gaussians"],
        **trained["held_out_quality"],
    }


def draw(document: dict[str, Any], path: Path) -> None:
    """The curves, inside the silhouette, against seconds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name in dict.fromkeys(point["preset"] for point in document["points"]):
        chosen = [point for point in document["points"] if point["preset"] == name]
        seconds = [point["seconds"] for point in chosen]
        axes.plot(seconds, [point["psnr_object"] for point in chosen], "o-", label=name)
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds of training, {document['threads']} thread(s)")
    axes.set_ylabel("held-out PSNR inside the silhouette, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(config: TrainingBenchmark) -> None:
    """Measures, and writes what is asked for."""
    document = measure(config)
    if config.json is not None:
        write_json(config.json, document)
    if config.chart is not None:
        draw(document, config.chart)


if __name__ == "__main__":
    run(lambda: main(tyro.cli(TrainingBenchmark, description=__doc__)))
