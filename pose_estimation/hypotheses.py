"""Coarse poses: from "this image looks like that one, rolled and shifted" to camera poses."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from scene import Camera
from scene.se3 import twist_exp

from .errors import rotation_error


@dataclass(frozen=True)
class Hypothesis:
    """A guess of the query camera's pose."""

    world_to_camera: Tensor  # [4, 4] float64
    score: float  # higher is better; comparable within one query and one matcher


class Matcher(Protocol):
    """Finds coarse poses of queries of one object (see matchers/)."""

    name: str

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        """Poses of a query [3, H, W] in 0..1 seen through the lens of `camera`, best first."""
        ...

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        """`coarse_poses` of each of B queries [B, 3, H, W]."""
        ...


def ray_of(camera: Camera, x: float, y: float) -> tuple[float, float]:
    """Pixel position to normalised image coordinates (x / z, y / z)."""
    return (x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy


def angular_scale(camera: Camera, pixels: float) -> float:
    """Length in pixels to a length on the plane z = 1."""
    return pixels / math.sqrt(camera.fx * camera.fy)


def facing(rays: Tensor) -> Tensor:
    """Smallest rotations [..., 4, 4] that turn viewing rays (x / z, y / z) [..., 2] onto +z."""
    direction = torch.nn.functional.normalize(
        torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1), dim=-1
    )
    axis = torch.stack(
        [direction[..., 1], -direction[..., 0], torch.zeros_like(direction[..., 0])], dim=-1
    )  # direction x (0, 0, 1), of length sin(angle)
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, direction[..., 2:])
    omega = axis / sine.clamp_min(1e-12) * angle
    return twist_exp(torch.cat([omega, torch.zeros_like(omega)], dim=-1))


def transfer_poses(
    poses: Tensor,  # [M, 4, 4] float64, world_to_camera of the matching gallery items
    rays: Tensor,  # [M, 2] their centroids, normalised image coordinates
    scales: Tensor,  # [M] their rms radii on the plane z = 1
    centre: Tensor,  # [3] of the object, world
    query_rays: Tensor,  # [M, 2]
    query_scales: Tensor,  # [M]
    rolls: Tensor,  # [M] radians by which the query is turned against the item, from x towards y
) -> Tensor:
    """World_to_camera [M, 4, 4] of a query that shows the items rolled, shifted and scaled.

    Both cameras are first turned to look at the centroid; there a roll is a rotation about z and
    another size is another distance of the object's centre.
    """
    virtual = facing(rays) @ poses
    distance = virtual[:, :3, :3] @ centre + virtual[:, :3, 3]  # [M, 3]
    zero = torch.zeros_like(rolls)
    change = distance[:, 2] * (scales / query_scales - 1)
    rolled = twist_exp(torch.stack([zero, zero, rolls, zero, zero, zero], dim=-1)) @ virtual
    pushed = rolled.clone()
    pushed[:, 2, 3] += change
    return facing(query_rays).transpose(1, 2) @ pushed


def keep_distinct(
    poses: Tensor,  # [M, 4, 4] float64
    scores: Tensor,  # [M]
    count: int,
    separation: float,  # radians
) -> list[Hypothesis]:
    """The best `count` poses whose rotations differ by at least `separation` from better ones."""
    kept: list[Hypothesis] = []
    remaining = torch.argsort(scores, descending=True)
    while len(kept) < count and remaining.numel():
        best = remaining[0]
        kept.append(Hypothesis(poses[best], float(scores[best])))
        apart = rotation_error(poses[remaining], poses[best]) >= separation
        remaining = remaining[apart]
    return kept
