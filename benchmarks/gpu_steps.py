"""The steps of gpu_check.py; each runs in a process of its own and returns plain numbers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_batches import compare_batch_sizes
from benchmarks.gpu_paths import half_precision, hot_paths, milliseconds
from benchmarks.triton_settings import compare_settings
from doctor import NVCC_FLAGS
from gaussian_renderer.backends import select_backend
from gaussian_renderer.losses import photometric_loss_reference
from gaussian_renderer.rendering import Backend
from scene import Camera, Gaussians, InputError, read_capture, write_json
from scene.neighbours import mean_squared_distances

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "data" / "brick_dog"
OPACITY_MAX = 0.35  # so that few pixels lie at graphdeco's cut (docs/gpu.md)
FAR = 1e-3  # in an image
Result = dict[str, Any]

_BUILDS = {
    "triton": ["triton"],
    "gsplat": ["gsplat==1.5.3"],
    "graphdeco": ["--no-build-isolation", "./submodules/diff-gaussian-rasterization"],
    "simple_knn": ["--no-build-isolation", "./submodules/simple-knn"],
}


def build(what: str) -> Result:
    """Installs one CUDA package with pip. Submodules must have been fetched before."""
    package = _BUILDS[what]
    folder = ROOT / package[-1]
    if package[-1].startswith("./") and not any(folder.glob("setup.py")):
        return {"state": f"{package[-1]} is empty: git submodule update --init --recursive"}
    flags = f"{os.environ.get('NVCC_APPEND_FLAGS', '')} {NVCC_FLAGS}".strip()
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--retries", "1", "--timeout", "10", *package],
        cwd=ROOT, env={**os.environ, "NVCC_APPEND_FLAGS": flags}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        print(done.stdout, done.stderr)  # the log that the cause is looked for in
        raise InputError(f"pip could not install {package[-1]} (without a network: docs/gpu.md)")
    return {"state": "installed"}


def random_scene(
    device: str, count: int = 2000, opacity_max: float = OPACITY_MAX
) -> tuple[Gaussians, Camera, Tensor]:
    """Random Gaussians, a camera whose principal point is off the centre, a tilted view."""
    g = torch.Generator().manual_seed(0)
    gaussians = Gaussians(
        means=0.5 * torch.randn(count, 3, generator=g),
        log_scales=-3.2 + 0.5 * torch.randn(count, 3, generator=g),
        quaternions=torch.randn(count, 4, generator=g),
        opacity_logits=torch.logit(0.02 + (opacity_max - 0.03) * torch.rand(count, generator=g)),
        sh=0.4 * torch.randn(count, 16, 3, generator=g),
    ).map(lambda t: t.to(device))
    turn = torch.zeros(4, 4, dtype=torch.float64)
    turn[0, 1], turn[1, 0], turn[0, 2], turn[2, 0] = 0.2, -0.2, 0.4, -0.4
    view = torch.linalg.matrix_exp(turn)
    view[:3, 3] = torch.tensor([0.1, -0.05, 3.0])
    camera = Camera(view, 190.0, 180.0, 82.0, 63.0, 160, 128)
    return gaussians, camera, view


def _outputs(backend: Backend, gaussians: Gaussians, camera: Camera, view: Tensor) -> Any:
    """Image, alpha, depth sum; gradients of their products with fixed random cotangents; radii."""
    like = gaussians.means
    leaves = gaussians.map(lambda t: t.clone().requires_grad_(True))
    pose = view.to(like).requires_grad_(True)
    screen = torch.zeros_like(like[:, :2]).requires_grad_(True)
    background = torch.tensor([0.9, 0.6, 0.3]).to(like)
    image, alpha, depth, radii = backend.rasterise(
        leaves, camera, pose, background, None, True, screen, 1
    )
    assert depth is not None
    results = {"image": image, "alpha": alpha, "depth": depth}
    g = torch.Generator().manual_seed(1)
    products = [(r * torch.randn(r.shape, generator=g).to(r)).sum() for r in results.values()]
    loss = torch.stack(products).sum()
    tensors = {**leaves.named_tensors(), "view": pose, "screen": screen}
    gradients = torch.autograd.grad(loss, list(tensors.values()))
    return results, dict(zip(tensors, gradients, strict=True)), radii


def compare(
    backend: Backend, reference: Backend, gaussians: Gaussians, camera: Camera, view: Tensor
) -> Result:
    """A backend in float32 against `reference` in float64, on the device of the Gaussians.

    Largest differences of image, alpha and depth sum; the share of the image's values that are
    off by over FAR; relative L2 of every gradient, those of the view (the pose) and of the
    projected means (growth) among them; how many Gaussians have other radii; and whether a second
    run gave the same bits.
    """
    results, gradients, radii = _outputs(backend, gaussians, camera, view)
    again, gradients_again, _ = _outputs(backend, gaussians, camera, view)
    exact, expected, sizes = _outputs(reference, gaussians.map(Tensor.double), camera, view)
    apart = {key: (results[key] - exact[key]).detach().abs() for key in results}
    found: Result = {f"{key}_max": float(values.max()) for key, values in apart.items()}
    found["image_far"] = float((apart["image"] > FAR).double().mean())
    found["same_bits"] = all(torch.equal(results[key], again[key]) for key in results) and all(
        torch.equal(a, b) for a, b in zip(gradients.values(), gradients_again.values(), strict=True)
    )
    found["gradients"] = {
        key: float((gradients[key] - expected[key]).norm() / expected[key].norm())
        for key in gradients
    }
    found["other_radii"] = int((radii != sizes).sum())
    return found


def compare_backend(backend: str, device: str = "cuda") -> Result:
    """One backend against `reference`, whose radii reach to alpha = 1/255 (not all do)."""
    chosen, reference = (select_backend(name, device) for name in (backend, "reference"))
    found = compare(chosen, reference, *random_scene(device))
    found.pop("other_radii")
    return found


def compare_loss() -> Result:
    """The Triton loss against its definition in float64, and the time of both."""
    from gaussian_renderer.triton.ssim import fused_photometric_loss

    g = torch.Generator().manual_seed(0)
    image = torch.rand(3, 400, 400, generator=g).cuda().requires_grad_(True)
    target = torch.rand(3, 400, 400, generator=g).cuda()
    exact = image.detach().double().requires_grad_(True)
    loss, expected = (
        fused_photometric_loss(image, target, 0.2),
        photometric_loss_reference(exact, target.double(), 0.2),
    )
    (gradient,) = torch.autograd.grad(loss, image)
    (true_gradient,) = torch.autograd.grad(expected, exact)

    def run(function: Callable[..., Tensor]) -> None:
        torch.autograd.grad(function(image, target, 0.2), image)

    return {
        "loss_difference": float((loss - expected).abs()),
        "gradient": float((gradient - true_gradient).norm() / true_gradient.norm()),
        "triton_ms": milliseconds(lambda: run(fused_photometric_loss)),
        "torch_ms": milliseconds(lambda: run(photometric_loss_reference)),
    }


def compare_neighbours() -> Result:
    """Start scales by simple-knn against scipy, and the time of both."""
    points = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(0))
    found, expected = (mean_squared_distances(points, device) for device in ("cuda", "cpu"))
    return {
        "largest_relative_difference": float(((found - expected).abs() / expected).max()),
        "simple_knn_ms": milliseconds(lambda: mean_squared_distances(points, "cuda"), repeats=5),
        "scipy_ms": milliseconds(lambda: mean_squared_distances(points, "cpu"), repeats=5),
    }


def train_brick_dog(backend: str, preset: str, folder: str, iterations: int | None) -> Result:
    """Trains data/brick_dog into a model folder."""
    from train import TrainConfig, train

    preset_name: Any = preset
    model = train(
        TrainConfig(
            source=SOURCE, model=Path(folder), preset=preset_name, iterations=iterations,
            backend=backend, device="cuda",
        )
    )  # fmt: skip
    trained = json.loads((model / "config.json").read_text())
    return {
        "training_seconds": trained["training_seconds"],
        "n_gaussians": trained["n_gaussians"],
        "held_out_quality": trained["held_out_quality"],
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20,
    }


def detect_brick_dog(backend: str, folder: str) -> Result:
    """Judges the test images of data/brick_dog, one by one."""
    from detect import DetectConfig, detect

    config = DetectConfig(model=Path(folder), backend=backend, device="cuda", batch_size=1)
    summary = detect(config).results["summary"]
    keys = ("image_auroc", "pixel_auroc", "aupro", "n_images", "n_failed", "pose", "seconds")
    result = {key: summary.get(key) for key in keys}
    return result | {"peak_mib": torch.cuda.max_memory_allocated() / 2**20}


def batches(backend: str, folder: str) -> Result:
    """Queries per second in batches of several sizes, and whether they end as one by one."""
    queries = read_capture(SOURCE).queries
    chosen = queries[:: max(1, len(queries) // 32)][:32]
    return compare_batch_sizes(backend, Path(folder), [query.image_path for query in chosen])


def hot_paths_of(backend: str, folder: str) -> Result:
    """Device times of a training step's parts, a pose step and a batch."""
    return hot_paths(backend, Path(folder), read_capture(SOURCE).views[0].camera)


def triton_settings(folder: str) -> Result:
    """Times of our kernels for other sizes of their blocks."""
    return compare_settings(Path(folder), read_capture(SOURCE).views[0].camera)


STEPS: dict[str, Callable[..., Result]] = {
    "build": build,
    "compare": compare_backend,
    "loss": compare_loss,
    "neighbours": compare_neighbours,
    "train": train_brick_dog,
    "detect": detect_brick_dog,
    "batches": batches,
    "hot": hot_paths_of,
    "half": half_precision,
    "settings": triton_settings,
}


def main(arguments: list[str]) -> None:
    """`python -m benchmarks.gpu_steps NAME JSON_ARGUMENTS RESULT_FILE`: for gpu_check.py only."""
    name, values, target = arguments
    try:
        result = STEPS[name](*json.loads(values))
    except InputError as error:
        sys.exit(f"error: {error}")
    write_json(Path(target), result)


if __name__ == "__main__":
    main(sys.argv[1:])
