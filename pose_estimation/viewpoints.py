"""Where an object lies, and places from which to look at it."""

import math

import numpy as np
import torch
from torch import Tensor

from scene import Gaussians

_EXTENT_SAMPLE = 8192


def object_extent(gaussians: Gaussians) -> tuple[Tensor, Tensor]:
    """Centre [3] and root-mean-square radius [] of the Gaussians, by opacity, float64.

    The outermost hundredth along every axis is left out, so that floaters do not count; of many
    Gaussians an even sample is taken.
    """
    stride = max(1, len(gaussians) // _EXTENT_SAMPLE)
    parts = gaussians.means[::stride], gaussians.opacity_logits[::stride, None]
    sample = torch.cat(parts, dim=1).detach().cpu().double()  # the one wait for a GPU
    means, weights = sample[:, :3], sample[:, 3].sigmoid()
    # NumPy partitions where PyTorch sorts: a tenth of the time, and this is done for every query.
    low, high = map(torch.from_numpy, np.quantile(means.T.numpy(), [0.01, 0.99], axis=1))
    weights = weights * ((means >= low) & (means <= high)).all(dim=1)
    weights = weights / weights.sum().clamp_min(1e-12)
    centre = weights @ means
    radius = (weights @ ((means - centre) ** 2).sum(1)).sqrt().clamp_min(1e-9)
    return centre, radius


def fibonacci_sphere(count: int) -> Tensor:
    """Unit vectors [count, 3] float64, nearly evenly spread (golden-angle spiral)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    longitude = math.pi * (1 + math.sqrt(5.0)) * index
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * longitude.cos(), ring * longitude.sin(), z], dim=-1)


def look_at(position: Tensor, target: Tensor) -> Tensor:
    """World_to_camera [4, 4] of a camera at `position` [3] that looks at `target` [3]; any roll."""
    forward = torch.nn.functional.normalize(target - position, dim=0)
    helper = torch.zeros(3, dtype=forward.dtype)
    helper[int(forward.abs().argmin())] = 1.0
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, helper), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose = torch.eye(4, dtype=forward.dtype)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ position
    return pose
