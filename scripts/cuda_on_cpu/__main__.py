"""Compares our adapters with the packages' own CUDA kernels, on a machine without a GPU.

    python -m scripts.cuda_on_cpu                              the comparison as a table
    python -m scripts.cuda_on_cpu --model out/brick_dog        also on a trained model (a minute)
    python -m scripts.cuda_on_cpu --train data/brick_dog       also trains by graphdeco (slow)

The sources of the submodules (git submodule update --init --recursive), and of gsplat where it is
installed, are compiled as C++, with CUDA's language and libraries stood in for by the headers
beside this file. Needs a C++ compiler, Python's headers and ninja (pip install ninja); fetches
nothing. The first run compiles for about three minutes, or ten with gsplat. Exits with 0 if all
agree, 1 if not, 2 if there is nothing to compile.
"""

import importlib.util
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import tyro
from torch import Tensor

from benchmarks.gpu_steps import ROOT, Result, compare, random_scene
from benchmarks.gpu_table import within_limits
from gaussian_renderer import backends, reference
from pipeline.command_line import run
from pipeline.model_folder import ModelFolder, camera_from_json
from scene import Camera, Gaussians, InputError, read_json
from scene.neighbours import by_simple_knn, mean_squared_distances
from scripts.cuda_on_cpu import cut_reference
from scripts.cuda_on_cpu.build import GRAPHDECO, GSPLAT, SIMPLE_KNN, load_on_cpu
from scripts.cuda_on_cpu.many_views import compare_many_views

KNN_LIMIT = 1e-3  # relative, as in gpu_check


@dataclass(frozen=True)
class Config:
    """What is compared."""

    submodules: Path = ROOT / "submodules"
    """Folder of the submodules."""
    gsplat: Path | None = None
    """Folder 'gsplat' of the package, version 1.5.3; default: the installed one, if there is."""
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


Scenes = dict[str, tuple[Gaussians, Camera, Tensor]]


def main(config: Config) -> int:
    """Prints the table; returns the exit status."""
    graphdeco = config.submodules / "diff-gaussian-rasterization"
    knn = config.submodules / "simple-knn"
    load_on_cpu(GRAPHDECO, graphdeco, config.build)
    load_on_cpu(SIMPLE_KNN, knn, config.build)
    sys.path[:0] = [str(graphdeco), str(knn)]  # their Python halves
    with_gsplat = load_gsplat(config)
    backends._ON_CPU += ("graphdeco", "gsplat")  # as they now can
    scenes: Scenes = {f"opacity < {o}": random_scene("cpu", opacity_max=o) for o in (0.35, 0.99)}
    if config.model is not None:
        scenes["the model"] = first_view(ModelFolder(config.model))
    good = compare_rasterisers(scenes, with_gsplat) & compare_neighbours()
    if config.train is not None:
        _train(config)
    return 0 if good else 1


def load_gsplat(config: Config) -> bool:
    """Loads gsplat; whether there is one. An installed one that does not fit is left out."""
    found = importlib.util.find_spec("gsplat")
    installed = None if found is None or found.origin is None else Path(found.origin).parent
    folder = config.gsplat or installed
    if folder is None:
        return False
    loaded: Any = ModuleType("gsplat.cuda._backend")  # gsplat's own would ask for a GPU
    try:
        loaded._C = load_on_cpu(GSPLAT, folder, config.build)
    except InputError as error:
        if config.gsplat is not None:
            raise
        print(f"gsplat is left out: {error}")
        return False
    sys.modules[loaded.__name__] = loaded
    sys.path.insert(0, str(folder.parent))
    return True


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


def compare_rasterisers(scenes: Scenes, with_gsplat: bool) -> bool:
    """Images, gradients and radii; whether they agree, given where graphdeco ends a splat."""
    print(f"{'package':<10} {'scene':<15} {'against':<18} image    (far)    alpha   depth   "
          f"{'worst gradient':<22} other radii")  # fmt: skip
    good = True
    graphdeco = backends.select_backend("graphdeco")
    for name, scene in scenes.items():
        found = compare(graphdeco, reference, *scene) | {"other_radii": "by design"}
        print(f"graphdeco  {name:<15} {'reference':<18} {_cells(found)}")
        found = compare(graphdeco, cut_reference, *scene)
        print(f"graphdeco  {name:<15} {'reference, its cut':<18} {_cells(found)}")
        good &= within_limits(found) and found["other_radii"] == 0
        if with_gsplat:
            found = compare(backends.select_backend("gsplat"), reference, *scene)
            print(f"gsplat     {name:<15} {'reference':<18} {_cells(found)}", flush=True)
            good &= within_limits(found)
    if with_gsplat:
        found = compare_many_views()
        print(f"gsplat     {'3 views at once':<15} {'reference, by one':<18} {_cells(found)}")
        good &= within_limits(found)
    return good


def _cells(found: Result) -> str:
    key, worst = max(found["gradients"].items(), key=lambda item: item[1])
    return (
        f"{found['image_max']:.1e} ({found['image_far']:.0e}) {found['alpha_max']:.1e} "
        f"{found['depth_max']:.1e} {worst:.1e} {key:<14} {found['other_radii']}"
    )


def compare_neighbours() -> bool:
    """simple-knn against scipy; whether they agree."""
    points = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    found, expected = by_simple_knn(points), mean_squared_distances(points)
    worst = float(((found - expected).abs() / expected).max())
    print(f"simple-knn 20,000 points   {'scipy':<18} {worst:.1e}, relative")
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
