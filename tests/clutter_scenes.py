"""A grey object without texture before clutter."""

import math

import cv2
import numpy as np
import torch
from pose_scenes import WHITE, lens
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from pose_estimation.viewpoints import look_at
from scene import Camera, Gaussians

SIZE = 200
ORIGIN = torch.zeros(3, dtype=torch.float64)


def angle_iron() -> ObjectRenderer:
    """Two plates at a right angle and a stub, all of one grey: no texture."""
    generator = torch.Generator().manual_seed(1)
    boxes = [  # middle, half sides
        ((0.0, 0.0, -0.4), (0.8, 0.5, 0.06)),
        ((-0.74, 0.0, 0.1), (0.06, 0.5, 0.5)),
        ((0.5, 0.3, -0.15), (0.12, 0.12, 0.22)),
    ]
    means = []
    for middle, half in boxes:
        count = 3000 if half[0] > 0.2 or half[2] > 0.3 else 800
        points = (2 * torch.rand(count, 3, generator=generator) - 1) * torch.tensor(half)
        means.append(points + torch.tensor(middle))
    every = torch.cat(means)
    shade = 0.25 * every[:, 2:] - 0.6 + 0.2 * (every[:, :1] < -0.65)  # the plates differ a little
    return ObjectRenderer(
        Gaussians(
            means=every,
            log_scales=torch.full((len(every), 3), math.log(0.03)),
            quaternions=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(every), 1),
            opacity_logits=torch.full((len(every),), 4.0),
            sh=shade[:, None, :].expand(-1, 1, 3).contiguous(),
        ),
        WHITE,
    )


def camera_from(direction: Tensor, distance: float = 4.0) -> Camera:
    return lens(look_at(distance * direction, ORIGIN), SIZE)


def clutter(seed: int, coloured: bool) -> np.ndarray:
    """Rectangles and discs of all sizes, [SIZE, SIZE, 3]."""
    generator = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), 0.6, np.float32)
    for number in range(60):
        colour = generator.random(3) if coloured else np.full(3, generator.uniform(0.1, 0.9))
        x, y = (int(part) for part in generator.integers(0, SIZE, 2))
        a, b = (int(part) for part in generator.integers(5, 45, 2))
        if number % 2:
            cv2.rectangle(image, (x - a, y - b), (x + a, y + b), colour.tolist(), -1)
        else:
            cv2.circle(image, (x, y), a, colour.tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), 0.7)


def query(model: ObjectRenderer, camera: Camera, seed: int, coloured: bool = True) -> Tensor:
    """The object before clutter, [3, H, W]."""
    with torch.no_grad():
        shown = model(camera)
    behind = torch.from_numpy(clutter(seed, coloured)).permute(2, 0, 1)
    return (shown.image - (1 - shown.alpha) + behind * (1 - shown.alpha)).clamp(0, 1)
