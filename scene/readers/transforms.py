"""`transforms*.json`: camera poses with OpenGL axes, as Blender, MAD and nerfstudio write them."""

import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..camera import Camera
from ..capture import View
from ..errors import InputError
from ..files import read_json
from ..images import IMAGE_SUFFIXES, image_size
from .folders import natural_key
from .matrices import opengl_camera_to_world

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_PINHOLE_MODELS = (
    "OPENCV",
    "PINHOLE",
    "SIMPLE_PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
)  # fine when every distortion is zero


@dataclass(frozen=True)
class Frame:
    """One entry of `frames`."""

    file_path: str  # relative to the capture, "/" between folders, no leading "./"
    where: str  # for errors: "…/transforms.json, frame train/good/0.png"
    world_to_camera: Tensor  # [4, 4] float64, OpenCV axes
    lens: Mapping[str, Any]  # the frame's own values over those of the whole file

    @property
    def name(self) -> str:
        """The path without its extension."""
        stem, suffix = posixpath.splitext(self.file_path)
        return stem if suffix.lower() in IMAGE_SUFFIXES else self.file_path


def read_frames(path: Path) -> list[Frame]:
    """All frames of a file, in natural order of their names.

    Raises:
        InputError: no JSON, absent keys, a bad matrix, a path that leaves the capture, or two
            frames for one image.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise InputError(f"{path} has no list `frames`: export the camera poses again.")
    shared = {key: value for key, value in content.items() if key != "frames"}
    frames: dict[str, Frame] = {}
    for number, entry in enumerate(content["frames"]):
        frame = _frame(entry, shared, path, number)
        if frame.name in frames:
            raise InputError(f"{frame.where} is listed twice: remove one of the two frames.")
        frames[frame.name] = frame
    return sorted(frames.values(), key=lambda frame: natural_key(Path(frame.file_path)))


def _frame(entry: Any, shared: Mapping[str, Any], path: Path, number: int) -> Frame:
    if not isinstance(entry, dict):
        raise InputError(f"{path}, frame {number} is not a JSON object: export the poses again.")
    for key in ("file_path", "transform_matrix"):
        if key not in entry:
            raise InputError(f"{path}, frame {number} has no `{key}`: add it or remove the frame.")
    relative = posixpath.normpath(str(entry["file_path"]).replace("\\", "/"))
    if relative.startswith(("/", "..")):
        raise InputError(
            f"{path}, frame {number}: file_path {relative} leads out of the folder: "
            "write it relative to the folder of the capture."
        )
    where = f"{path}, frame {relative}"
    pose = opengl_camera_to_world(entry["transform_matrix"], where)
    return Frame(relative, where, pose, {**shared, **entry})


def views_of(frames: list[Frame], root: Path) -> tuple[View, ...]:
    """One view per frame, at the size of its image.

    Raises:
        InputError: frames without files, bad intrinsics, or images of different sizes behind one
            shared lens.
    """
    views = []
    for frame, path in zip(frames, find_images(frames, root), strict=True):
        views.append(View(frame.name, path, frame_camera(frame, path)))
    _refuse_mixed_sizes(frames, views)
    return tuple(views)


def _refuse_mixed_sizes(frames: list[Frame], views: list[View]) -> None:
    """Without w and h, one angle means another focal length for every image size."""
    if not views:
        return
    first = views[0]
    size = (first.camera.width, first.camera.height)
    for frame, view in zip(frames, views, strict=True):
        found = (view.camera.width, view.camera.height)
        if found != size and "w" not in frame.lens:
            raise InputError(
                f"{view.image_path} is {found[0]} x {found[1]} pixels but {first.image_path.name} "
                f"is {size[0]} x {size[1]}: give all train images one size, or w and h per frame."
            )


def query_poses(path: Path) -> dict[str, Tensor]:
    """Query name ("Burrs/3") to world_to_camera [4, 4] float64; empty without the file.

    Raises:
        InputError: see `read_frames`.
    """
    if not path.is_file():
        return {}
    return {f.name.removeprefix("test/"): f.world_to_camera for f in read_frames(path)}


def find_images(frames: list[Frame], root: Path) -> list[Path]:
    """The image file of every frame; the extension may be missing in `file_path`.

    Raises:
        InputError: frames without files (their number and the first are named).
    """
    paths = [_find_image(root / frame.file_path) for frame in frames]
    missing = [f.file_path for f, path in zip(frames, paths, strict=True) if path is None]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(frames)} frames have no image in {root} (the first is "
            f"{missing[0]}): restore the images or remove the frames."
        )
    return [path for path in paths if path is not None]


def _find_image(path: Path) -> Path | None:
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return path
    spellings = [s for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())]
    candidates = (path.with_name(path.name + suffix) for suffix in spellings)
    return next((p for p in candidates if p.is_file()), None)


def frame_camera(frame: Frame, image_path: Path) -> Camera:
    """The camera of a frame at the size of its image.

    Focal lengths come from fl_x, fl_y (pixels) or from camera_angle_x (radians; focal length =
    0.5 width / tan(0.5 angle)); the principal point is the centre unless cx, cy are given.

    Raises:
        InputError: no focal length, impossible values, lens distortion, or an image whose aspect
            ratio is not that of w x h.
    """
    _refuse_distortion(frame)
    found = image_size(image_path)
    width, height = (round(_number(frame, key, found[i])) for i, key in enumerate(("w", "h")))
    scale = width / found[0]  # one pixel of rounding is allowed in the coarser of the two
    if width < 1 or height < 1 or abs(found[1] * scale - height) > max(1.0, scale):
        raise InputError(
            f"{frame.where}: the image is {found[0]} x {found[1]} pixels but w x h says "
            f"{width} x {height}: correct w and h or give the image for which they were measured."
        )
    if "fl_x" in frame.lens:
        fx = _number(frame, "fl_x")
    elif "camera_angle_x" in frame.lens:
        fx = _focal_from_angle(frame, width)
    else:
        raise InputError(f"{frame.where}: neither camera_angle_x nor fl_x is given: add one.")
    fy = _number(frame, "fl_y", fx)
    if fx <= 0 or fy <= 0:
        raise InputError(f"{frame.where}: the focal length is not positive: correct it.")
    cx, cy = _number(frame, "cx", width / 2), _number(frame, "cy", height / 2)
    return Camera(frame.world_to_camera, fx, fy, cx, cy, width, height).resized(*found)


def _focal_from_angle(frame: Frame, width: int) -> float:
    angle = _number(frame, "camera_angle_x")
    if not 0 < angle < math.pi:
        raise InputError(
            f"{frame.where}: camera_angle_x is {angle:g}, not between 0 and pi: give radians."
        )
    return 0.5 * width / math.tan(0.5 * angle)


def _number(frame: Frame, key: str, default: float | None = None) -> float:
    value = frame.lens.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{frame.where}: `{key}` is {value!r}, not a finite number: correct it.")
    return float(value)


def _refuse_distortion(frame: Frame) -> None:
    model = str(frame.lens.get("camera_model", "OPENCV"))
    bent = [key for key in _DISTORTION if _number(frame, key, 0.0) != 0.0]
    if frame.lens.get("is_fisheye"):  # as instant-ngp marks them
        model = "fisheye"
    if bent or model not in _PINHOLE_MODELS:
        raise InputError(
            f"{frame.where}: the lens has distortion ({', '.join(bent) or model}), which cannot be "
            "rendered: undistort the images first (colmap image_undistorter) and use its output."
        )
