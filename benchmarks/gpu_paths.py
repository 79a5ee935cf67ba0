"""Device times and waits of the hot paths, and whether half precision would keep the scores."""

import functools
import json
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaussian_renderer.backends import select_backend
from gaussian_renderer.batch import render_batch, renders_many
from gaussian_renderer.losses import photometric_loss
from gaussian_renderer.normal_equations import pose_normal_equations
from gaussian_renderer.pose_problems import PoseProblems
from gaussian_renderer.variants import Variants
from pipeline.precision import SAME_TO
from scene import Camera, Gaussians, load_ply

Result = dict[str, Any]
_WAITED = "called a synchronizing CUDA operation"  # what PyTorch warns of


def trained_cloud(model: Path, device: str = "cuda") -> tuple[Gaussians, Tensor]:
    """The Gaussians of a model folder, which want gradients, and the background [3]."""
    trained = json.loads((model / "config.json").read_text())
    clouds = sorted(model.glob("point_cloud/iteration_*/point_cloud.ply"))
    gaussians = load_ply(clouds[-1]).map(lambda t: t.to(device).requires_grad_(True))
    return gaussians, torch.tensor(trained["background"] or (0.0, 0.0, 0.0), device=device)


def hot_paths(backend: str, model: Path, camera: Camera) -> Result:
    """Milliseconds of a training step's parts, pose steps and a batch, on the trained model.

    Also how often each of them makes the host wait for the device.
    """
    gaussians, background = trained_cloud(model)
    view = camera.world_to_camera.to(gaussians.means)
    screen = torch.zeros_like(gaussians.means[:, :2], requires_grad=True)
    target = torch.rand(3, camera.height, camera.width, device="cuda")
    rasteriser = select_backend(backend, "cuda")

    def forward() -> Tensor:
        return rasteriser.rasterise(
            gaussians, camera, view, background, None, False, screen, 1
        )[0]  # fmt: skip

    def step() -> None:
        photometric_loss(forward(), target, 0.2).backward()

    def pose() -> None:
        pose_normal_equations(gaussians.detach(), camera, target, background, backend=backend)

    views = view.expand(16, 4, 4)
    batch = functools.partial(
        render_batch, gaussians.detach(), camera, views, background, backend=backend
    )
    with torch.no_grad():
        result = {"forward_ms": milliseconds(forward), "batch_of_16_ms": milliseconds(batch)}
    result |= {
        "forward_loss_backward_ms": milliseconds(step),
        "pose_normal_equations_ms": milliseconds(pose),
    }
    paths: dict[str, Callable[[], Any]] = {"step": step, "pose": pose, "batch_of_16": batch}
    if renders_many(backend, "cuda"):
        many = _pose_problems(gaussians.detach(), camera, target, background, backend)
        result["pose_equations_of_16_ms"] = milliseconds(many, repeats=10)
        paths["pose_equations_of_16"] = many
    return result | {"waits": {name: device_waits(path) for name, path in paths.items()}}


def _pose_problems(
    gaussians: Gaussians, camera: Camera, target: Tensor, background: Tensor, backend: str
) -> Callable[[], Any]:
    """The equations of 16 problems in which everything is visible, at full resolution."""
    everything = torch.ones(16, len(gaussians), dtype=torch.bool, device=target.device)
    variants = Variants(gaussians, everything, gaussians.opacity_logits.expand(16, -1))
    problems = PoseProblems(
        variants, camera, target.expand(16, -1, -1, -1), background, backend=backend
    )
    return lambda: problems(range(16), camera.world_to_camera.expand(16, 4, 4))


def half_precision(device: str = "cuda", network: Any = None) -> Result:
    """EfficientNet-b4 in half precision against single: how far scores move, and what it saves.

    Pictures are noise with a patch of another colour. Without a `network` the weights in the
    cache are taken; nothing is downloaded.
    """
    from anomaly import anomaly_maps
    from anomaly.efficientnet import EfficientNetFeatures, load_efficientnet, weights_path

    if network is None:
        if not weights_path().is_file():
            return {"state": f"left out: no weights of EfficientNet-b4 at {weights_path()}"}
        network = load_efficientnet(device=device).network
    features = EfficientNetFeatures(network, device)
    g = torch.Generator().manual_seed(0)
    rendering = torch.rand(4, 3, 400, 400, generator=g).to(device)
    query = rendering.clone()
    for i in range(len(query)):
        query[i, :, 100 : 120 + 20 * i, 200:240] *= 0.6

    def scores(half: bool) -> Tensor:
        features.half = half
        return anomaly_maps(features, query, rendering)[1]

    exact, rough = scores(False), scores(True)
    moved = float(((rough - exact) / exact).abs().max())
    result: Result = {"largest_relative_change": moved, "same_to_3_digits": moved < SAME_TO}
    if device == "cuda":
        times = {"single_ms": milliseconds(lambda: scores(False)),
                 "half_ms": milliseconds(lambda: scores(True))}  # fmt: skip
        result |= times
    return result


def device_waits(function: Callable[[], Any]) -> int:
    """How often PyTorch makes the host wait for the device in one run of a function.

    By PyTorch's own count, which knows most of its operations and none of an extension's.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum(_WAITED in str(warning.message) for warning in caught)


def milliseconds(function: Callable[[], Any], repeats: int = 30, warm_up: int = 5) -> Result:
    """Device time by events: median, minimum and maximum of `repeats` runs after a warm-up."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}
