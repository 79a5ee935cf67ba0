"""Small clouds on which the CPU kernel is held against the float64 reference."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gaussian_renderer import Rendering, render
from scene import Camera, Gaussians

pytest.importorskip("splatpose_cpu", reason="the CPU kernel is not installed: pip install .")

POSE = torch.linalg.matrix_exp(
    torch.tensor([[0, 0.1, 0.2, 0.05], [-0.1, 0, 0.05, 0.1], [-0.2, -0.05, 0, 0.1], [0, 0, 0, 0]])
)


def camera(width: int = 70, height: int = 61) -> Camera:
    """At z = -3, looking at the origin; neither side is a multiple of a tile."""
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[2, 3] = 3.0
    return Camera(world_to_camera, 70.0, 75.0, 0.47 * width, 0.49 * height, width, height)


def cloud(count: int = 150, degree: int = 0, seed: int = 0) -> Gaussians:
    """Random Gaussians about the origin, float32; overlapping, some behind opaque ones."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=0.5 * normal(count, 3),
        log_scales=0.4 * normal(count, 3) - 2.5,
        quaternions=normal(count, 4),
        opacity_logits=1.5 * normal(count),
        sh=0.3 * normal(count, (degree + 1) ** 2, 3),
    )


@dataclass
class Differentiated:
    """A rendering and what flowed back from random cotangents of all its parts."""

    rendering: Rendering
    gradients: dict[str, Tensor]


def differentiate(
    gaussians: Gaussians,
    backend: str,
    channels: int | None = None,
    depth: bool = False,
    threads: int = 1,
    view: Camera | None = None,
) -> Differentiated:
    """Renders in float64 for "reference", else in float32, always the same problem."""
    dtype = torch.float64 if backend == "reference" else torch.float32
    view = view or camera()
    generator = torch.Generator().manual_seed(7)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(dtype)

    leaves = gaussians.map(lambda t: t.detach().to(dtype)).requires_grad_()
    colours = (
        None if channels is None else uniform(len(gaussians), channels).clone().requires_grad_()
    )
    background = uniform(channels or 3).requires_grad_()
    pose = POSE.to(dtype).clone().requires_grad_()
    out = render(
        leaves, view, background, pose,
        backend=backend, colours=colours, depth=depth, threads=threads,
    )  # fmt: skip
    size = (view.height, view.width)
    loss = (out.image * (uniform(channels or 3, *size) - 0.5)).sum()
    loss = loss + (out.alpha * (uniform(*size) - 0.5)).sum()
    if out.depth is not None:
        loss = loss + (out.depth * (uniform(*size) - 0.5)).sum()
    loss.backward()
    tensors = leaves.named_tensors() | {"pose": pose, "screen": out.screen, "back": background}
    if colours is not None:
        tensors |= {"colours": colours}
        del tensors["sh"]
    gradients = {name: t.grad for name, t in tensors.items() if t.grad is not None}
    assert gradients.keys() == tensors.keys()
    return Differentiated(out, gradients)


def relative_error(value: Tensor, truth: Tensor) -> float:
    """Relative L2 distance: an element-wise bound near zero would hide a missing gradient."""
    truth = truth.detach().double()
    return float((value.detach().double() - truth).norm() / truth.norm().clamp_min(1e-30))


def with_extremes(gaussians: Gaussians) -> Gaussians:
    """The same cloud with a NaN or an infinity in every field, and degenerate Gaussians."""
    broken = gaussians.map(torch.clone)
    broken.means[0, 1] = math.nan
    broken.means[1, 0] = math.inf
    broken.log_scales[2, 2] = math.nan
    broken.quaternions[3] = math.nan
    broken.opacity_logits[4] = math.nan
    broken.sh[5, 0, 1] = math.nan
    broken.log_scales[6] = math.inf
    return broken
