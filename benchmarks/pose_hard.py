"""Queries made hard on purpose: rolled, near, far, cut off, of one colour, nearly symmetric.

    python -m benchmarks.pose_hard --model out/brick_dog --source data/brick_dog --json hard.json

Renders the model itself, with noise of 1 %, from changed poses of held-out views and looks for
them; so this tests the search, not the model. Found: within 1 degree and 0.02 units.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from gaussian_renderer import available_backends
from gaussian_renderer.object_renderer import ObjectRenderer
from gaussian_renderer.spherical_harmonics import C0
from pose_estimation import build_gallery, estimate_pose, rotation_error, select_matcher
from pose_estimation import translation_error as distance_error
from pose_estimation.templates import differs, object_extent
from scene import Camera, Gaussians, load_ply, read_capture, split_holdout, write_json
from scene.se3 import twist_exp

from .common import ANGLE_LIMIT, DISTANCE_LIMIT, machine

_NOISE = 0.01
_FACTORS = (0.8, 1.25)  # nearest and farthest, times the distance of the view
_SHIFT = 0.3  # world units, at most
_CUT = 0.67  # of the way from the middle of the frame to its border, for the object's centre

Change = Callable[[Tensor, Camera, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Config:
    """Command line."""

    model: Path
    """Model folder written by train.py."""
    source: Path
    """The capture that it was trained on."""
    views: int = 16
    """Held-out views; each gives one query of every kind."""
    threads: int = 1
    seed: int = 0
    json: Path | None = None
    """Where to write the results."""


@dataclass(frozen=True)
class Row:
    """One kind of queries."""

    kind: str
    found: int
    tried: int


def main(config: Config) -> list[Row]:
    """Runs every kind and returns the shares found."""
    torch.set_num_threads(config.threads)
    gaussians = load_ply(max(config.model.glob("point_cloud/iteration_*/point_cloud.ply")))
    capture = read_capture(config.source)
    background = torch.tensor(capture.background or (1.0, 1.0, 1.0))
    views, held_out = split_holdout(capture.views)
    cameras = [view.camera for view in views]
    targets = [view.camera for view in held_out][: config.views]
    rows = []
    for name, model in variants(gaussians).items():
        station = Station(
            ObjectRenderer(model, background, available_backends()[0], config.threads), cameras
        )
        for kind, change in (CHANGES if name == "" else {"": CHANGES["as it is"]}).items():
            generator = torch.Generator().manual_seed(config.seed)
            found = sum(station.finds(camera, change, generator) for camera in targets)
            rows.append(Row(kind or name, found, len(targets)))
            print(f"| {rows[-1].kind} | {found} of {len(targets)} |", flush=True)
    if config.json is not None:
        document = {"machine": machine(config.threads), "model": config.model.name}
        write_json(config.json, document | {"rows": [asdict(row) for row in rows]})
    return rows


class Station:
    """One object, ready to be looked for."""

    def __init__(self, model: ObjectRenderer, cameras: list[Camera]) -> None:
        self.model = model
        self.centre, _ = object_extent(model.gaussians)
        images = [self.picture(camera) for camera in cameras[::8]]
        gallery = build_gallery(
            model.gaussians, cameras[::8], images, [differs(i, model.background) for i in images],
            model.background, backend=model.backend, threads=model.threads,
        )  # fmt: skip
        self.matcher = select_matcher("classical", gallery, model.gaussians).matcher

    @torch.no_grad()
    def picture(self, camera: Camera) -> Tensor:
        """The rendering [3, H, W]."""
        return self.model(camera).image.clamp(0, 1)

    def finds(self, camera: Camera, change: Change, generator: torch.Generator) -> bool:
        """Whether the changed pose of a view is found in its noisy rendering."""
        true = change(camera.world_to_camera, camera, self.centre, generator)
        image = self.picture(camera.at(true))
        image = (image + _NOISE * torch.randn(image.shape, generator=generator)).clamp(0, 1)
        model = self.model
        found = estimate_pose(
            model.gaussians, camera, image, self.matcher.coarse_poses(image, camera),
            model.background,
        ).world_to_camera  # fmt: skip
        near = bool(rotation_error(found, true) < ANGLE_LIMIT)
        return near and bool(distance_error(found, true) < DISTANCE_LIMIT)


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


if __name__ == "__main__":
    main(tyro.cli(Config))
