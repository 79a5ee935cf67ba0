"""Quality against processor time: held-out PSNR while each preset trains, as a table and a picture.

    python -m benchmarks.training -s data/brick_dog --json out/curve.json --picture out/curve.png
    python -m benchmarks.training -s data/brick_dog --presets default --iterations 500 1000 3000

`--iterations` gives the budgets of `default` (its schedule stretches to the budget, so that every
budget is a run of its own); `paper` is one run of 30,000 iterations, observed on the way.
"""

import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from gaussian_renderer.object_renderer import ObjectRenderer
from pipeline.calibrate import view_silhouettes
from pipeline.command_line import run
from pipeline.model_folder import ModelFolder, provenance
from pipeline.optimise import Optimisation, optimise, read_views
from pipeline.presets import TRAINING, TrainingPreset
from pipeline.quality import held_out_quality
from scene import Gaussians, read_capture, split_holdout, write_json


@dataclass(frozen=True)
class TrainingBenchmark:
    """What is trained, and where the curves go."""

    source: Annotated[Path, tyro.conf.arg(aliases=["-s"])]
    """Folder of the object."""
    presets: tuple[str, ...] = ("default", "paper")
    """Presets to compare."""
    iterations: tuple[int, ...] = (500, 1000, 2000, 3000)
    """Budgets of `default`."""
    observe_every: int = 2500
    """`paper`: iterations between two points of its curve; not a divisor of 3,000, whose
    multiples have just had their opacities reset."""
    threads: int = 1
    """CPU threads."""
    seed: int = 0
    """Of the runs."""
    json: Path | None = None
    """File for the figures."""
    picture: Path | None = None
    """File for the curves."""


def measure(config: TrainingBenchmark) -> dict[str, Any]:
    """Trains every preset and budget; returns points of (seconds, PSNR). Raises InputError."""
    torch.set_num_threads(config.threads)
    points = []
    for name in config.presets:
        budgets = config.iterations if name == "default" else (TRAINING[name].iterations,)
        for budget in budgets:
            preset = replace(TRAINING[name], iterations=budget)
            points += _train(config, name, preset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "source": str(config.source),
        "threads": config.threads,
        "points": points,
        "peak_gb": round(peak, 3),
        **provenance(),
    }


def _train(
    config: TrainingBenchmark, name: str, preset: TrainingPreset
) -> list[dict[str, float | str | None]]:
    """Points of one run; of `default` only its end, of the others the way as well."""
    capture = read_capture(config.source)
    views, held_out = split_holdout(capture.views, 10)
    images: list[Tensor] = [i.float().div_(255) for i in read_views(capture, held_out)]
    masks = view_silhouettes(capture, held_out, images)
    work = Optimisation(
        capture, views, preset, config.seed, torch.device("cpu"), "auto", config.threads, 10**9
    )
    points: list[dict[str, float | str | None]] = []
    watched = time.process_time()  # moves on by what the watching itself costs

    def observe(iteration: int, gaussians: Gaussians, seconds: float) -> None:
        """Adds a point where the curve wants one."""
        nonlocal watched
        now = time.process_time()
        is_last = iteration == preset.iterations
        if not is_last and (name == "default" or iteration % config.observe_every):
            return
        model = ObjectRenderer(gaussians, work.background, threads=config.threads)
        quality = held_out_quality(model, [v.camera for v in held_out], images, masks)
        points.append(
            {"preset": name, "iterations": iteration, "seconds": round(seconds, 2),
             "cpu_seconds": round(now - watched, 2), "n_gaussians": len(gaussians), **quality}
        )  # fmt: skip
        print(points[-1], flush=True)
        watched += time.process_time() - now

    with tempfile.TemporaryDirectory() as folder:
        optimise(work, ModelFolder(Path(folder)), observe)
    return points


def draw(document: dict[str, Any], path: Path) -> None:
    """Both curves, inside the silhouette, against seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name in dict.fromkeys(point["preset"] for point in document["points"]):
        chosen = [point for point in document["points"] if point["preset"] == name]
        seconds = [point["cpu_seconds"] for point in chosen]
        axes.plot(seconds, [point["psnr_object"] for point in chosen], "o-", label=name)
    axes.set_xscale("log")
    axes.set_xlabel(f"processor seconds of training, {document['threads']} thread(s)")
    axes.set_ylabel("held-out PSNR inside the silhouette, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Command line."""

    def script() -> None:
        config = tyro.cli(TrainingBenchmark, description=__doc__)
        document = measure(config)
        if config.json is not None:
            write_json(config.json, document)
        if config.picture is not None:
            draw(document, config.picture)

    run(script)


if __name__ == "__main__":
    main()
