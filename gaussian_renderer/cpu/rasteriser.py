"""Rasterisation by the native kernel, as one node of autograd."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scene import Camera, Gaussians, InputError

from .native import address, as_input, kernel, memory, sizes_named

Outputs = tuple[Tensor, Tensor, Tensor | None, Tensor]


class CloudInputs(NamedTuple):
    """Checked, contiguous float32 tensors on the CPU; exactly one of sh and colours is given."""

    means: Tensor  # [N, 3]
    log_scales: Tensor  # [N, 3]
    quaternions: Tensor  # [N, 4]
    opacity_logits: Tensor  # [N]
    sh: Tensor | None  # [N, K, 3]
    colours: Tensor | None  # [N, C]
    screen: Tensor  # [N, 2]
    view: Tensor  # [4, 4]
    background: Tensor  # [C]

    def addresses(self) -> tuple[int, ...]:
        """The cloud as module.cpp expects it."""
        terms = 0 if self.sh is None else self.sh.shape[1]
        pointers = (address(t) for t in self[:7])
        return (self.means.shape[0], *pointers, terms, self.background.shape[0])


@dataclass
class _Call:
    """What one rendering needs besides tensors that take gradients."""

    camera: Camera
    with_depth: bool
    threads: int


def rasterise(
    gaussians: Gaussians,
    camera: Camera,
    view: Tensor,  # [4, 4]
    background: Tensor,  # [C]
    colours: Tensor | None,  # [N, C]
    with_depth: bool,
    screen: Tensor,  # [N, 2]
    threads: int,
) -> Outputs:
    """See `gaussian_renderer.backend.Rasterise`.

    Gaussians with a number that is not finite, or whose centre, extent (pixels), depth or colour
    exceeds 1e18, are not drawn. Gradients are held within 1e18; where float32 overflows to
    something undefined on the way there, they are 0.

    Raises InputError for wrong shapes, types or devices, for sizes that do not fit into memory,
    and for a kernel of another version.
    """
    call = _Call(camera, with_depth, threads)
    tensors = cloud_inputs(gaussians, view, background, colours, screen)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        image, alpha, depth, radii = _Rasterise.apply(call, *tensors)
        return image, alpha, depth, radii
    outputs, _ = _forward(call, tensors, keep=False)
    return outputs


def cloud_inputs(
    gaussians: Gaussians,
    view: Tensor,  # [4, 4]
    background: Tensor,  # [C]
    colours: Tensor | None,  # [N, C]
    screen: Tensor,  # [N, 2]
) -> CloudInputs:
    """Checks what goes to the kernel; raises InputError for wrong shapes, types or devices."""
    n = len(gaussians)
    channels = 3 if colours is None else colours.shape[-1]
    if channels == 0:
        raise InputError("colours has no channel: give one at least")
    terms = gaussians.sh.shape[1]
    if colours is None and terms not in (1, 4, 9, 16):
        raise InputError(f"sh has {terms} coefficients a colour: expected 1, 4, 9 or 16")
    return CloudInputs(
        as_input(gaussians.means, (n, 3), "means"),
        as_input(gaussians.log_scales, (n, 3), "log_scales"),
        as_input(gaussians.quaternions, (n, 4), "quaternions"),
        as_input(gaussians.opacity_logits, (n,), "opacity_logits"),
        as_input(gaussians.sh, (n, terms, 3), "sh") if colours is None else None,
        None if colours is None else as_input(colours, (n, channels), "colours"),
        as_input(screen, (n, 2), "screen"),
        as_input(view, (4, 4), "view"),
        as_input(background, (channels,), "background"),
    )


def _forward(call: _Call, tensors: CloudInputs, keep: bool) -> tuple[Outputs, Any]:
    """Runs the kernel; with `keep` also returns the state for `backward`."""
    camera = call.camera
    height, width, count = camera.height, camera.width, tensors.means.shape[0]
    with sizes_named(count, camera):
        image = torch.empty(tensors.background.shape[0], height, width)
        alpha = torch.empty(height, width)
        depth = torch.empty(height, width) if call.with_depth else None
        radii = torch.empty(count, dtype=torch.int32)
        state = kernel().rasterise(
            tensors.addresses(), camera.fx, camera.fy, camera.cx, camera.cy, width, height,
            address(tensors.view), address(tensors.background), address(image), address(alpha),
            address(depth), address(radii), keep, max(1, call.threads), memory(),
        )  # fmt: skip
    return (image, alpha, depth, radii), state


class _Rasterise(torch.autograd.Function):
    """Gradients flow to all tensors; `call` carries the rest."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Any) -> Outputs:
        (image, alpha, depth, radii), ctx.state = _forward(call, CloudInputs(*tensors), keep=True)
        ctx.call = call
        ctx.save_for_backward(*tensors, image, alpha, depth)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(radii)
        return image, alpha, depth, radii

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,
        d_image: Tensor | None,
        d_alpha: Tensor | None,
        d_depth: Tensor | None,
        _radii: None,
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the cloud's tensors and the view by the kernel, of the background here."""
        *saved, image, alpha, depth = ctx.saved_tensors
        tensors = CloudInputs(*saved)
        cotangents = [None if d is None else d.contiguous() for d in (d_image, d_alpha, d_depth)]
        gradients = [
            torch.empty_like(t) if need and t is not None else None
            for t, need in zip(tensors[:8], ctx.needs_input_grad[1:9], strict=True)
        ]
        outputs = tuple(address(g) for g in gradients)
        with sizes_named(tensors.means.shape[0], ctx.call.camera):
            kernel().backward(
                ctx.state, tensors.addresses(), address(image), address(alpha), address(depth),
                *(address(d) for d in cotangents), outputs, max(1, ctx.call.threads),
            )  # fmt: skip
        background = None
        if ctx.needs_input_grad[9] and cotangents[0] is not None:
            background = (cotangents[0] * (1 - alpha)).sum(dim=(1, 2))
        return None, *gradients, background


def saved_state(image: Tensor) -> Any:
    """What a rendering with gradients keeps; `.seconds` are those of its stages (for benchmarks).

    The stages are project, bin and sort, blend, blend backward, project backward.
    """
    return image.grad_fn.state  # type: ignore[union-attr]
