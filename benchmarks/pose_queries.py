"""What benchmarks.pose shows to the search: changed poses and objects, and no object at all."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gaussian_renderer import C0
from pose_estimation import object_extent
from scene import Camera, Gaussians
from scene.se3 import twist_exp

_FACTORS = (0.8, 1.25)  # nearest and farthest, times the distance of the view
_SHIFT = 0.3  # world units, at most
_CUT = 0.67  # of the way from the middle of the frame to its border, for the object's centre

Change = Callable[[Tensor, Camera, Tensor, torch.Generator], Tensor]


def turned(world_to_camera: Tensor, centre: Tensor, axis: Tensor, angle: float) -> Tensor:
    """The camera [4, 4] after the object was turned about `axis` [3] through its centre [3]."""
    motion = twist_exp(torch.cat([axis / axis.norm() * angle, torch.zeros_like(axis)]))
    motion[:3, 3] = centre - motion[:3, :3] @ centre
    return world_to_camera @ motion


def variants(gaussians: Gaussians) -> dict[str, Gaussians]:
    """The object itself (""), one of a single colour, and a nearly symmetric one."""
    plain = gaussians.map(torch.clone)
    plain.sh[:, 1:] = 0
    shade = plain.sh[:, :1].mean(dim=2, keepdim=True)
    plain.sh[:, :1] = 0.15 * (shade - shade.mean()) - 0.3 / C0  # a dark grey with little shading
    centre, _ = object_extent(gaussians)
    half_turn = torch.tensor([-1.0, -1.0, 1.0])
    copy = gaussians.map(torch.clone)
    copy.means = (gaussians.means - centre.to(gaussians.means)) * half_turn + centre.to(
        gaussians.means
    )
    w, x, y, z = gaussians.quaternions.unbind(1)
    copy.quaternions = torch.stack([-z, -y, x, w], dim=1)  # half a turn about z, and the old one
    pair = Gaussians(
        **{k: torch.cat([t, copy.named_tensors()[k]]) for k, t in gaussians.named_tensors().items()}
    )
    pair.sh[:, 1:] = 0
    marked = pair.means[:, 0] > torch.quantile(pair.means[:, 0], 0.9)
    pair.sh[marked, 0] = torch.tensor([0.3, -0.3, -0.3]) / C0
    return {"": gaussians, "one dark grey, little shading": plain,
            "joined with its copy turned by 180 degrees, one tenth red": pair}  # fmt: skip


def as_it_is(pose: Tensor, camera: Camera, centre: Tensor, generator: torch.Generator) -> Tensor:
    """[4, 4], unchanged."""
    return pose


def rolled(pose: Tensor, camera: Camera, centre: Tensor, generator: torch.Generator) -> Tensor:
    """Turned about the optical axis by any angle."""
    twist = torch.zeros(6, dtype=torch.float64)
    twist[2] = 2 * math.pi * float(torch.rand(1, generator=generator))
    return twist_exp(twist) @ pose


def at_distance(factor: float) -> Change:
    """The object's centre at `factor` times its distance, on the same ray."""

    def change(pose: Tensor, camera: Camera, centre: Tensor, generator: torch.Generator) -> Tensor:
        return moved(pose, (factor - 1) * (pose[:3, :3] @ centre + pose[:3, 3]))

    return change


def anything(pose: Tensor, camera: Camera, centre: Tensor, generator: torch.Generator) -> Tensor:
    """Rolled, nearer or farther, and shifted."""
    low, high = _FACTORS
    factor = low + (high - low) * float(torch.rand(1, generator=generator))
    pose = at_distance(factor)(rolled(pose, camera, centre, generator), camera, centre, generator)
    shift = _SHIFT * (2 * torch.rand(3, generator=generator, dtype=torch.float64) - 1)
    shift[2] = 0
    return moved(pose, shift)


def cut(across: int, down: int) -> Change:
    """The object's centre moved towards the border or corner in that direction."""

    def change(pose: Tensor, camera: Camera, centre: Tensor, generator: torch.Generator) -> Tensor:
        x, y, z = (pose[:3, :3] @ centre + pose[:3, 3]).tolist()
        wanted_x = across * _CUT * z * camera.width / (2 * camera.fx) if across else x
        wanted_y = down * _CUT * z * camera.height / (2 * camera.fy) if down else y
        return moved(pose, torch.tensor([wanted_x - x, wanted_y - y, 0], dtype=torch.float64))

    return change


def moved(pose: Tensor, shift: Tensor) -> Tensor:
    """[4, 4] with the object shifted by [3] in the camera's frame."""
    pose = pose.clone()
    pose[:3, 3] += shift
    return pose


CHANGES: dict[str, Change] = {
    "as it is": as_it_is,
    "rolled by any angle": rolled,
    "0.8 times as far": at_distance(_FACTORS[0]),
    "1.25 times as far": at_distance(_FACTORS[1]),
    "rolled, 0.8-1.25 times as far, shifted": anything,
    "cut off by one border": cut(1, 0),
    "cut off by a corner of the frame": cut(-1, 1),
}


MADE = ("noise", "blobs", "one colour", "background only", "tiny object", "noise square", "half")


def make(kind: str, camera: Camera, background: Tensor, generator: torch.Generator) -> Tensor:
    """An image [3, H, W] of the named kind that does not show the object."""
    height, width = camera.height, camera.width
    whole = background[:, None, None].expand(3, height, width).clone()
    colour = torch.rand(3, 1, 1, generator=generator)
    if kind == "noise":
        return torch.rand(3, height, width, generator=generator)
    if kind == "blobs":
        small = torch.rand(1, 3, 8, 8, generator=generator)
        size = (height, width)
        return torch.nn.functional.interpolate(small, size=size, mode="bilinear")[0]
    if kind == "one colour":
        return colour.expand(3, height, width).clone()
    if kind == "tiny object":
        side = max(2, min(height, width) // 40)
        whole[:, height // 3 : height // 3 + side, width // 2 : width // 2 + side] = colour
    elif kind == "noise square":
        top, left = height // 4, width // 4
        square = torch.rand(3, height // 2, width // 2, generator=generator)
        whole[:, top : top + height // 2, left : left + width // 2] = square
    elif kind == "half":
        whole[:, :, : width // 2] = colour
    return whole
