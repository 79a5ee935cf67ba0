"""Tiny captures in every supported format, for tests: a shaded ball seen from all around.

Every writer returns the folder. Poses are made once, as OpenCV world-to-camera matrices, and are
written in the convention of the format, so that a reader can be held against `orbit`.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scene import Camera

SIZE = 32  # pixels, width and height of all images
ANGLE = 0.7  # camera_angle_x, radians
DISTANCE = 4.0
RADIUS = 0.8  # of the ball
COLOUR = (200, 60, 30)


def look_at(centre: Sequence[float], target: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """World-to-camera [4, 4] float64, OpenCV axes, of a camera that looks at `target`."""
    eye, aim = (torch.tensor(point, dtype=torch.float64) for point in (centre, target))
    forward = torch.nn.functional.normalize(aim - eye, dim=0)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
    return pose


def orbit(
    count: int, distance: float = DISTANCE, target: Sequence[float] = (0.0, 0.0, 0.0)
) -> list[Tensor]:
    """Poses spread over the sphere around `target` (a Fibonacci spiral without the poles)."""
    poses = []
    for i in range(count):
        height = 0.9 * (1 - (2 * i + 1) / count)
        angle, radius = 2.39996 * i, (1 - height**2) ** 0.5
        offset = (radius * np.cos(angle), radius * np.sin(angle), height)
        centre = [t + distance * float(o) for t, o in zip(target, offset, strict=True)]
        poses.append(look_at(centre, target))
    return poses


def camera_at(pose: Tensor, size: int = SIZE, angle: float = ANGLE) -> Camera:
    """The camera that the JSON writers describe."""
    focal = 0.5 * size / np.tan(0.5 * angle)
    return Camera(pose, focal, focal, size / 2, size / 2, size, size)


def ball_mask(
    camera: Camera, radius: float = RADIUS, centre: Sequence[float] = (0, 0, 0)
) -> Tensor:
    """The exact silhouette of a ball, [H, W] bool: rays that pass it within its radius."""
    columns = (torch.arange(camera.width, dtype=torch.float64) + 0.5 - camera.cx) / camera.fx
    rows = (torch.arange(camera.height, dtype=torch.float64) + 0.5 - camera.cy) / camera.fy
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    rays = torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)
    pose = camera.world_to_camera
    ball = pose[:3, :3] @ torch.tensor(centre, dtype=torch.float64) + pose[:3, 3]
    along = rays @ ball
    return (ball.square().sum() - along.square()).sqrt() < radius


def ball_image(pose: Tensor, size: int = SIZE, alpha: bool = False) -> Image.Image:
    """The ball in one colour on white, or on nothing with `alpha`."""
    inside = ball_mask(camera_at(pose, size)).numpy()
    if alpha:
        pixels = np.zeros((size, size, 4), np.uint8)
        pixels[inside] = (*COLOUR, 255)
    else:
        pixels = np.full((size, size, 3), 255, np.uint8)
        pixels[inside] = COLOUR
    return Image.fromarray(pixels)


def painted_ball(
    pose: Tensor,
    size: int,
    spot: Sequence[float] | None = None,  # unit, towards a dark spot of 0.14 on the surface
    darkness: float = 1.0,  # of the spot
) -> Image.Image:
    """The ball on white in colours that vary with the place: no two of its sides look alike."""
    camera = camera_at(pose, size)
    steps = (torch.arange(size, dtype=torch.float64) + 0.5 - size / 2) / camera.fx
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    rays = torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)
    rays, eye = rays @ pose[:3, :3], camera.centre
    along = -(rays @ eye)
    hit = along**2 - (eye.square().sum() - RADIUS**2)
    place = eye + (along - hit.clamp_min(0).sqrt())[..., None] * rays
    waves = torch.sin(place @ torch.tensor([[5.0, 2, 1], [-1, 4, 3], [2, -3, 4]]).double().T + 0.5)
    colours = 150 + 90 * waves
    if spot is not None:
        near = (place - RADIUS * torch.tensor(spot, dtype=torch.float64)).norm(dim=-1) < 0.14
        colours = torch.where(near[..., None], (1 - darkness) * colours, colours)
    pixels = torch.where(hit[..., None] > 0, colours, 255.0)
    return Image.fromarray(pixels.round().numpy().astype(np.uint8))


def save_image(path: Path, image: Image.Image) -> None:
    """Saves with missing folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def opengl_matrix(pose: Tensor) -> list[list[float]]:
    """World-to-camera with OpenCV axes to camera-to-world with OpenGL axes."""
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    return (torch.linalg.inv(pose) @ flip).tolist()


def frame(path: str, pose: Tensor, **more: Any) -> dict[str, Any]:
    """An entry of `frames`."""
    return {"file_path": path, "transform_matrix": opengl_matrix(pose), **more}


def write_transforms(path: Path, frames: list[dict[str, Any]], **shared: Any) -> None:
    """A transforms file with `camera_angle_x`, or with the given shared values instead."""
    content = {**(shared or {"camera_angle_x": ANGLE}), "frames": frames}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_mad(
    root: Path,
    views: int = 12,
    labels: Mapping[str, int] | None = None,  # folder name to number of queries
    train: str = "train/good",
    mask_suffix: str = "_mask",
) -> Path:
    """A class in MAD's layout; `train` and `mask_suffix` make it MIP's. True test poses as well."""
    poses = orbit(views)
    for i, pose in enumerate(poses):
        save_image(root / train / f"{i}.png", ball_image(pose))
    frames = [frame(f"./{train}/{i}.png", pose) for i, pose in enumerate(poses)]
    write_transforms(root / "transforms.json", frames[::-1])
    truth = []
    for label, count in (labels or {"good": 2, "Burrs": 11}).items():
        for i in range(count):
            name = f"test/{label}/{i}.png"
            save_image(root / name, ball_image(poses[i]))
            truth.append(frame(f"./{name}", poses[i]))
            if not label.lower().startswith("good"):
                mask = Image.fromarray(np.eye(SIZE, dtype=np.uint8) * 255)
                save_image(root / "ground_truth" / label / f"{i}{mask_suffix}.png", mask)
    write_transforms(root / "test_poses.json", truth)
    return root


def write_mip(root: Path) -> Path:
    """PIAD's layout: no `good` folder in train, masks without `_mask`, several normal folders."""
    return write_mad(root, 5, {"good_bright": 1, "good_dim": 1, "Stains": 2}, "train", "")


def write_rad(root: Path) -> Path:
    """MAD's layout with names in lower case."""
    return write_mad(root, 5, {"good": 1, "burrs": 1, "missing": 2})


def write_blender(root: Path, views: int = 4, queries: int = 3) -> Path:
    """A NeRF-synthetic scene: RGBA, no extensions, three splits, depth and normal maps in test."""
    poses = orbit(views + queries)
    splits = {"train": poses[:views], "val": poses[:1], "test": poses[views:]}
    for split, members in splits.items():
        for i, pose in enumerate(members):
            save_image(root / split / f"r_{i}.png", ball_image(pose, alpha=True))
        frames = [frame(f"./{split}/r_{i}", pose) for i, pose in enumerate(members)]
        write_transforms(root / f"transforms_{split}.json", frames)
    for kind in ("depth", "normal"):
        save_image(root / "test" / f"r_0_{kind}_0000.png", Image.new("L", (SIZE, SIZE)))
    return root


def write_colmap(
    root: Path,
    views: int = 6,
    model: str = "sparse/0",
    lens: tuple[int, str, Sequence[float]] = (1, "PINHOLE", (44.0, 45.0, 16.0, 15.5)),
    binary: bool = True,
) -> Path:
    """A COLMAP capture with three sparse points; only the model is added to an existing folder."""
    poses = orbit(views)
    for i, pose in enumerate(poses):
        if not (root / "images" / f"{i}.png").exists():
            save_image(root / "images" / f"{i}.png", ball_image(pose))
    folder = root / model
    folder.mkdir(parents=True, exist_ok=True)
    (_write_colmap_binary if binary else _write_colmap_text)(folder, poses, lens)
    return root


def quaternion_of(pose: Tensor) -> list[float]:
    """wxyz of a rotation by at most a little less than half a turn: enough for tests."""
    rotation = pose[:3, :3]
    angle = torch.arccos(((rotation.trace() - 1) / 2).clamp(-1, 1))
    skew = (rotation - rotation.T) / (2 * angle.sin())
    axis = torch.stack([skew[2, 1], skew[0, 2], skew[1, 0]])
    return [float((angle / 2).cos()), *(axis * (angle / 2).sin()).tolist()]


POINTS = ((0.0, 0.0, 0.8, 255, 0, 0), (0.8, 0.0, 0.0, 0, 255, 0), (0.0, 0.8, 0.0, 0, 0, 51))


def _write_colmap_binary(
    folder: Path, poses: list[Tensor], lens: tuple[int, str, Sequence[float]]
) -> None:
    number, _, parameters = lens
    cameras = struct.pack("<QiiQQ", 1, 1, number, SIZE, SIZE)
    (folder / "cameras.bin").write_bytes(cameras + struct.pack(f"<{len(parameters)}d", *parameters))
    images = struct.pack("<Q", len(poses))
    for i, pose in enumerate(poses):
        values = (*quaternion_of(pose), *pose[:3, 3].tolist())
        images += struct.pack("<i7di", i + 1, *values, 1) + f"{i}.png".encode() + b"\0"
        images += struct.pack("<Qddq", 1, 3.0, 4.0, -1)  # one 2D point without a 3D point
    (folder / "images.bin").write_bytes(images)
    points = struct.pack("<Q", len(POINTS))
    for i, point in enumerate(POINTS):
        points += struct.pack("<Q3d3BdQii", i, *point, 0.5, 1, 1, 0)
    (folder / "points3D.bin").write_bytes(points)


def _write_colmap_text(
    folder: Path, poses: list[Tensor], lens: tuple[int, str, Sequence[float]]
) -> None:
    _, name, parameters = lens
    values = " ".join(map(repr, parameters))
    (folder / "cameras.txt").write_text(f"# cameras\n1 {name} {SIZE} {SIZE} {values}\n")
    lines = ["# image list"]
    for i, pose in enumerate(poses):
        numbers = [*quaternion_of(pose), *pose[:3, 3].tolist()]
        lines += [
            f"{i + 1} {' '.join(map(repr, numbers))} 1 {i}.png",
            "" if i % 2 else "3.0 4.0 -1",
        ]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{i} {' '.join(map(str, point))} 0.5 1 0" for i, point in enumerate(POINTS)]
    (folder / "points3D.txt").write_text("\n".join(["# points", *rows]) + "\n")
