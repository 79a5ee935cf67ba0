"""The capture that train.py reads: RGBA photographs and transforms.json, in MAD's layout."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from scene import InputError, atomic_write, write_json

from .geometry import Array
from .photographs import read_rgb
from .posed import Posed
from .sfm import Lens
from .undistort import Pinhole


def write_capture(
    out: Path,
    posed: Posed,
    poses: Sequence[Array],  # [4, 4] each, world_to_camera in the capture's frame
    masks: Sequence[NDArray[np.uint8]],  # [H, W] each
) -> None:
    """Writes the photographs, whose colours under alpha 0 stay, and then transforms.json."""
    frames = []
    wanted = {f"{name}.png" for name in posed.names}
    for old in (out / "train" / "good").glob("*.png"):
        if old.name not in wanted:
            old.unlink()
    bar = tqdm(posed.names, desc="writing", unit="image", file=sys.stderr)
    for number, name in enumerate(bar):
        image = read_rgb(posed.paths[number])
        alpha = np.where(posed.pinholes[number].covered, masks[number], 0).astype(np.uint8)
        path = f"train/good/{name}.png"
        save_png(out / path, np.dstack([image, alpha]))
        camera_to_world = np.linalg.inv(poses[number]) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": path, "transform_matrix": camera_to_world.tolist()}
                      | _intrinsics(posed.pinholes[number]))  # fmt: skip
    write_json(out / "transforms.json", {"camera_model": "PINHOLE", "frames": frames})


def write_cameras(out: Path, lenses: Mapping[str, Lens]) -> None:
    """camera.json, or camera_<name>.json of each of several: the cameras of the photographs as they
    were taken, for detect.py --camera.
    """
    for name, lens in lenses.items():
        k1, k2, p1, p2 = lens.distortion
        file = "camera.json" if len(lenses) == 1 else f"camera_{name}.json"
        write_json(out / file, {
            "fx": lens.fx, "fy": lens.fy, "cx": lens.cx, "cy": lens.cy, "w": lens.width,
            "h": lens.height, "k1": k1, "k2": k2, "p1": p1, "p2": p2,
        })  # fmt: skip


def _intrinsics(pinhole: Pinhole) -> dict[str, float]:
    return {
        "fl_x": pinhole.fx, "fl_y": pinhole.fy, "cx": pinhole.cx, "cy": pinhole.cy,
        "w": pinhole.width, "h": pinhole.height,
    }  # fmt: skip


def save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a PNG, whole or not at all."""
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format="PNG", compress_level=3)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """A mask that was written before, [H, W]. Raises InputError if it is damaged."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise InputError(f"{path} is damaged: add --overwrite to begin again.")
    return np.asarray(mask, np.uint8)
