"""What each Gaussian adds to a set of views."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scene import Camera, Gaussians

from . import render


def largest_contribution(
    gaussians: Gaussians, cameras: Sequence[Camera], backend: str = "auto", threads: int = 1
) -> Tensor:
    """The sum of a Gaussian's blending weights over an image, largest of all cameras, [N].

    In pixels: 1 is what one opaque pixel takes. What is hidden, transparent or out of frame in
    every view has next to none, whatever its opacity. The weights are the derivatives of a one
    channel image by the Gaussians' colours, so every backend gives them by its backward pass.
    """
    largest = torch.zeros(len(gaussians), device=gaussians.means.device)
    background = torch.zeros(1, device=largest.device)
    still = gaussians.detach()
    for camera in cameras:
        colours = torch.zeros(len(gaussians), 1, device=largest.device, requires_grad=True)
        image = render(
            still, camera, background, backend=backend, colours=colours, threads=threads
        ).image
        (weights,) = torch.autograd.grad(image.sum(), colours)
        largest = torch.maximum(largest, weights[:, 0])
    return largest
