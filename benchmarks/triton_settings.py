"""Which block sizes of our Triton kernels are fastest on this GPU. A step of gpu_check.py."""

import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_paths import milliseconds, trained_cloud
from scene import Camera

CHUNKS = {"blending": (4, 8, 16), "pose": (1, 2, 4)}  # Gaussians
WARPS = (2, 4, 8)
Result = dict[str, Any]


def compare_settings(model: Path, camera: Camera, device: str = "cuda") -> Result:
    """Median milliseconds of blending and of the pose equations, by "chunk, warps".

    Every setting must give the same image and sums: "largest_change" says how far they were apart.
    """
    from gaussian_renderer.triton import blending, pose, pose_rows, rasterise

    gaussians, background = trained_cloud(model, device)
    view = camera.world_to_camera.to(gaussians.means)
    target = torch.full((1, 3, camera.height, camera.width), 0.5, device=device)
    screen = torch.zeros_like(gaussians.means[:, :2])
    owners = torch.zeros(1, dtype=torch.int64, device=device)

    def image() -> Tensor:
        return rasterise(gaussians, camera, view, background, None, False, screen, 1)[0]

    def forward() -> Tensor:
        with torch.no_grad():
            return image()

    def both() -> None:
        image().square().mean().backward()

    def rows() -> Tensor:
        return pose_rows(
            gaussians.detach(), camera, view[None], target, background, 0.1, owners=owners
        )

    blended = _each(blending, "blending", {"forward": forward, "both": both}, device)
    linearised = _each(pose, "pose", {"forward": rows}, device)
    changes = [times.pop("change") for times in (*blended.values(), *linearised.values())]
    return {"blending": blended, "pose": linearised, "largest_change": max(changes)}


def _each(module: ModuleType, name: str, runs: dict[str, Any], device: str) -> Result:
    """Times of each setting of a module's constants, which are put back afterwards."""
    usual = module.CHUNK, module.WARPS
    expected = runs["forward"]()
    found: Result = {}
    try:
        for chunk, warps in itertools.product(CHUNKS[name], WARPS):
            module.CHUNK, module.WARPS = chunk, warps  # type: ignore[attr-defined]
            change = (runs["forward"]() - expected).abs().max() / expected.abs().max()
            times = {}
            if device == "cuda":  # elsewhere only the results are compared
                times = {key: milliseconds(run, repeats=10)["median"] for key, run in runs.items()}
            found[f"{chunk}, {warps}"] = {**times, "change": float(change)}
    finally:
        module.CHUNK, module.WARPS = usual  # type: ignore[attr-defined]
    return found
