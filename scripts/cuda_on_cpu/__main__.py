"""Compares our adapters with the packages' own CUDA kernels, on a machine without a GPU.

    python -m scripts.cuda_on_cpu                              the comparison as a table
    python -m scripts.cuda_on_cpu --model out/brick_dog        also on a trained model (a minute)
    python -m scripts.cuda_on_cpu --train data/brick_dog       also trains by the package (slow)

The sources of the submodules (git submodule update --init --recursive) are compiled as C++, with
CUDA's language and libraries stood in for by the headers beside this file. Needs a C++ compiler,
Python's headers and ninja (pip install ninja); fetches nothing. The first run compiles for about
three minutes. Exits with 0 if all agree, 1 if not, 2 if there is nothing to compile.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from benchmarks.gpu_steps import ROOT, Result, compare, random_scene
from benchmarks.gpu_table import within_limits
from gaussian_renderer import backends, reference
from pipeline.command_line import run
from pipeline.model_folder import ModelFolder, camera_from_json
from scene import Camera, Gaussians, read_json
from scene.neighbours import by_simple_knn, mean_squared_distances
from scripts.cuda_on_cpu import cut_reference
from scripts.cuda_on_cpu.build import load_on_cpu

KNN_LIMIT = 1e-3  # relative, as in gpu_check


@dataclass(frozen=True)
class Config:
    """What is compared."""

    submodules: Path = ROOT / "submodules"
    """Folder of the submodules."""
    build: Path = ROOT / "out" / "cuda_on_cpu"
    """Folder for what is compiled, and for the models of --train."""
    model: Path | None = None
    """Also render the first view of this model folder."""
    train: Path | None = None
    """Also train this capture, by the package and by what runs without it."""
    iterations: int = 40
    """Steps of that training, which calibration follows."""
    max_gaussians: int = 1000
    """Cap on its Gaussians."""


def main(config: Config) -> int:
    """Prints the table; returns the exit status."""
    load_on_cpu(
        "diff_gaussian_rasterization._C", config.submodules / "diff-gaussian-rasterization",
        config.build, ("third_party/glm",),
    )  # fmt: skip
    load_on_cpu("simple_knn._C", config.submodules / "simple-knn", config.build)
    backends._ON_CPU += ("graphdeco",)  # as it now can
    scenes = {f"opacity < {o}": random_scene("cpu", opacity_max=o) for o in (0.35, 0.99)}
    if config.model is not None:
        scenes["the model"] = first_view(ModelFolder(config.model))
    good = compare_rasteriser(scenes) & compare_neighbours()
    if config.train is not None:
        _train(config)
    return 0 if good else 1


def first_view(folder: ModelFolder) -> tuple[Gaussians, Camera, Tensor]:
    """A trained model and its first train view. Raises InputError when there is no such model."""
    settings = folder.load_config()
    entry = read_json(folder.root / "cameras.json")[0]
    rotation = torch.tensor(entry["rotation"], dtype=torch.float64).T
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = rotation
    view[:3, 3] = -rotation @ torch.tensor(entry["position"], dtype=torch.float64)
    gaussians = folder.load_gaussians(settings["settings"]["iterations"])
    return gaussians, camera_from_json(settings["camera"]), view


def compare_rasteriser(scenes: dict[str, tuple[Gaussians, Camera, Tensor]]) -> bool:
    """Images, gradients and radii; whether they agree, given where the package ends a splat."""
    graphdeco = backends.select_backend("graphdeco")
    print(f"{'graphdeco':<15} {'against':<18} image    (far)    alpha   depth   "
          f"{'worst gradient':<22} other radii")  # fmt: skip
    good = True
    for name, scene in scenes.items():
        plain = compare(graphdeco, reference, *scene)
        cut = compare(graphdeco, cut_reference, *scene)
        print(_row(name, "reference", plain | {"other_radii": "by design"}))
        print(_row(name, "reference, its cut", cut))
        good &= within_limits(cut) and cut["other_radii"] == 0
    return good


def _row(scene: str, against: str, found: Result) -> str:
    key, worst = max(found["gradients"].items(), key=lambda item: item[1])
    return (
        f"{scene:<15} {against:<18} {found['image_max']:.1e} ({found['image_far']:.0e}) "
        f"{found['alpha_max']:.1e} {found['depth_max']:.1e} {worst:.1e} {key:<14} "
        f"{found['other_radii']}"
    )


def compare_neighbours() -> bool:
    """simple-knn against scipy; whether they agree."""
    points = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    found, expected = by_simple_knn(points), mean_squared_distances(points)
    worst = float(((found - expected).abs() / expected).max())
    print(f"simple-knn      scipy              {worst:.1e} relative, of 20,000 points")
    return worst <= KNN_LIMIT


def _train(config: Config) -> None:
    """The same training by the package and by the best backend of this machine."""
    from train import TrainConfig, train

    assert config.train is not None
    for backend in ("graphdeco", "auto"):
        started = time.monotonic()
        model = train(
            TrainConfig(
                config.train, config.build / f"model_{backend}", iterations=config.iterations,
                max_gaussians=config.max_gaussians, backend=backend, device="cpu", overwrite=True,
            )
        )  # fmt: skip
        found = read_json(model / "config.json")
        print(
            f"training by {backend}: {found['held_out_quality']['psnr']:.2f} dB, "
            f"{found['n_gaussians']} Gaussians, {found['training_seconds']:.0f} s of "
            f"{time.monotonic() - started:.0f} s with calibration"
        )


if __name__ == "__main__":
    config = tyro.cli(Config, description=__doc__)
    run(lambda: sys.exit(main(config)))
