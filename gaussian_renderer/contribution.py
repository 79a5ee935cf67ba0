"""What each Gaussian adds to a set of views."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scene import Camera

from .object_renderer import ObjectRenderer


def largest_contribution(model: ObjectRenderer, cameras: Sequence[Camera]) -> Tensor:
    """The sum of a Gaussian's blending weights over an image, largest of all cameras, [N].

    In pixels: 1 is what one opaque pixel takes. What is hidden, transparent or out of frame in
    every view has next to none, whatever its opacity.
    """
    largest = torch.zeros_like(model.gaussians.means[:, 0])
    for camera in cameras:
        _, weight = model.splat(camera, largest.new_zeros(1, camera.height, camera.width))
        largest = torch.maximum(largest, weight)
    return largest
