"""`transforms*.json`: camera poses with OpenGL axes, as Blender, MAD and nerfstudio write them."""

import logging
import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..camera import Camera
from ..capture import View
from ..decode import IMAGE_SUFFIXES, read_header
from ..distortion import Distortion
from ..errors import InputError
from ..files import read_json
from .folders import natural_key
from .keys import FOCAL, UNKNOWN_DISTORTION, check_keys, merged, normal_path, training_names
from .lenses import Orientations, checked_camera, fits, refuse_turned, say_pixel_aspect
from .matrices import opengl_camera_to_world
from .object_masks import check_masks

_PINHOLE_MODELS = (
    "OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE",
)  # fmt: skip  # besides distortion, which is undone
_SAME_FOCAL = 0.02  # how far two statements of one focal length may differ
_log = logging.getLogger(__name__)


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


def read_frames(path: Path, for_training: bool = False) -> list[Frame]:
    """All frames of a file, in natural order of their names.

    For training, the keys are checked, and frames of the validation and test splits are left out.

    Raises:
        InputError: no JSON, absent keys, a bad matrix, a path that leaves the capture, two
            frames for one image, or a key that cannot be honoured.
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
    kept = list(frames.values())
    if for_training:
        check_keys(content, path)
        train, others = training_names(content, path)
        kept = [f for f in kept if (train is None and f.file_path not in others) or
                (train is not None and f.file_path in train)]  # fmt: skip
    return sorted(kept, key=lambda frame: natural_key(Path(frame.file_path)))


def _frame(entry: Any, shared: Mapping[str, Any], path: Path, number: int) -> Frame:
    if not isinstance(entry, dict):
        raise InputError(f"{path}, frame {number} is not a JSON object: export the poses again.")
    for key in ("file_path", "transform_matrix"):
        if key not in entry:
            raise InputError(f"{path}, frame {number} has no `{key}`: add it or remove the frame.")
    if not isinstance(entry["file_path"], str):
        raise InputError(f"{path}, frame {number}: `file_path` is no text: correct it.")
    relative = inside_path(entry["file_path"], f"{path}, frame {number}: file_path")
    where = f"{path}, frame {relative}"
    pose = opengl_camera_to_world(entry["transform_matrix"], where)
    return Frame(relative, where, pose, merged(shared, entry))


def inside_path(name: str, where: str) -> str:
    """A path of a file, normal in form. Raises InputError if it leads out of the capture."""
    relative = normal_path(name)
    first = relative.split("/")[0]
    if first in ("", "..", ".") or first[1:2] == ":" or "\0" in relative:
        raise InputError(
            f"{where} {relative!r} leads out of the folder: write it relative to the folder of the "
            "capture."
        )
    return relative


def views_of(frames: list[Frame], root: Path) -> tuple[View, ...]:
    """One view per frame, at the size of its image.

    Raises:
        InputError: no frame has a file, masks are missing, bad intrinsics, or images of different
            sizes behind one shared lens.
    """
    views, orientations = [], Orientations()
    frames, paths = find_images(frames, root)
    for frame, path in zip(frames, paths, strict=True):
        camera, lens = frame_camera(frame, path, orientations)
        views.append(View(frame.name, path, camera, lens, _find_mask(frame, root)))
    check_masks(views, root)
    _refuse_mixed_sizes(frames, views)
    orientations.say()
    say_pixel_aspect([view.camera for view in views], root)
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


def find_images(frames: list[Frame], root: Path) -> tuple[list[Frame], list[Path]]:
    """Frames with their image files; the extension may be missing in `file_path`.

    Frames without a file are left out and counted, as instant-ngp does.

    Raises:
        InputError: no frame has a file.
    """
    paths = [_find_image(root / frame.file_path) for frame in frames]
    missing = [f.file_path for f, path in zip(frames, paths, strict=True) if path is None]
    if missing and len(missing) == len(frames):
        raise InputError(
            f"None of {len(frames)} frames has its image in {root} (the first is {missing[0]}): "
            "restore the images or correct file_path."
        )
    if missing:
        _log.warning(
            "%d of %d frames have no image in %s and are left out (the first is %s)",
            len(missing), len(frames), root, missing[0],
        )  # fmt: skip
    found = [(f, path) for f, path in zip(frames, paths, strict=True) if path is not None]
    return [frame for frame, _ in found], [path for _, path in found]


def point_file(path: Path) -> Path | None:
    """The file of points that `ply_file_path` names; None where there is none.

    Raises:
        InputError: it leads out of the capture.
    """
    value = read_json(path).get("ply_file_path")
    if not isinstance(value, str) or not value:
        return None
    points = path.parent / inside_path(value, f"{path}: ply_file_path")
    if points.is_file():
        return points
    _log.warning("%s: there is no %s: training starts without its points", path, points)
    return None


def _find_mask(frame: Frame, root: Path) -> Path | None:
    """The file that `mask_path` names; None without that key. Raises InputError."""
    value = frame.lens.get("mask_path")
    if value is None:
        return None
    path = root / inside_path(str(value), f"{frame.where}: mask_path")
    if not path.is_file():
        raise InputError(f"{frame.where}: there is no mask {path}: restore it or remove mask_path.")
    return path


def _find_image(path: Path) -> Path | None:
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return path
    spellings = [s for suffix in IMAGE_SUFFIXES for s in (suffix, suffix.upper())]
    candidates = (path.with_name(path.name + suffix) for suffix in spellings)
    return next((p for p in candidates if p.is_file()), None)


def frame_camera(
    frame: Frame, image_path: Path, orientations: Orientations
) -> tuple[Camera, Distortion | None]:
    """The camera of a frame at the size of its image, and the distortion that is to be undone.

    Focal lengths come, for each axis, from fl_x (pixels), camera_angle_x (radians; focal length =
    0.5 width / tan(0.5 angle)) or x_fov (degrees); where one axis has none, pixels are square. The
    principal point is the centre unless cx, cy are given.

    Raises:
        InputError: no focal length, impossible or contradictory values, a lens of another kind, or
            an image whose aspect ratio is not that of w x h.
    """
    _refuse_lens(frame)
    header = read_header(image_path)
    found = header.size
    size = (_number(frame, "w", found[0]), _number(frame, "h", found[1]))
    if min(size) < 1 or not fits(found, size):
        if min(size) >= 1:
            refuse_turned(image_path, header, size, frame.where)
        raise InputError(
            f"{frame.where}: the image is {found[0]} x {found[1]} pixels but w x h says "
            f"{size[0]:g} x {size[1]:g}: correct w and h or give the image for which they were "
            "measured."
        )
    is_stated = "w" in frame.lens and "h" in frame.lens
    orientations.add(image_path, header, size if is_stated else None)
    fx, fy = (_focal(frame, axis, side) for axis, side in zip("xy", size, strict=True))
    if fx is None and fy is None:
        raise InputError(f"{frame.where}: neither camera_angle_x nor fl_x is given: add one.")
    focal = (fx or fy or 0.0, fy or fx or 0.0)
    centre = (_number(frame, "cx", size[0] / 2), _number(frame, "cy", size[1] / 2))
    camera = checked_camera(frame.where, frame.world_to_camera, focal, centre, size)
    camera = camera.resized(*found)
    radial = [_number(frame, key, 0.0) for key in ("k1", "k2", "k3", "k4")]
    tangential = (_number(frame, "p1", 0.0), _number(frame, "p2", 0.0))
    lens = Distortion.of(camera, frame.where, radial, tangential)
    return camera if lens is None else lens.pinhole(camera), lens


def _focal(frame: Frame, axis: str, side: float) -> float | None:
    """Focal length along an axis in pixels of an image of that side; None where nothing is said."""
    forms = [form for form in FOCAL[axis] if form in frame.lens]
    values = [_focal_of(frame, form, side) for form in forms]
    for form, value in zip(forms[1:], values[1:], strict=True):
        if abs(value - values[0]) > _SAME_FOCAL * values[0]:
            raise InputError(
                f"{frame.where}: {forms[0]} means a focal length of {values[0]:.6g} pixels and "
                f"{form} one of {value:.6g}, in an image {side:g} pixels wide or high: remove the "
                "wrong one, or give w and h for which they were measured."
            )
    return values[0] if values else None


def _focal_of(frame: Frame, form: str, side: float) -> float:
    value = _number(frame, form)
    if form.startswith("fl_"):
        if value <= 0:
            raise InputError(f"{frame.where}: the focal length is not positive: correct it.")
        return value
    angle = math.radians(value) if form.endswith("_fov") else value
    if not 0 < angle < math.pi:
        unit = "180: give degrees" if form.endswith("_fov") else "pi: give radians"
        raise InputError(f"{frame.where}: {form} is {value:g}, not between 0 and {unit}.")
    return 0.5 * side / math.tan(0.5 * angle)


def _number(frame: Frame, key: str, default: float | None = None) -> float:
    value = frame.lens.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{frame.where}: `{key}` is {value!r}, not a finite number: correct it.")
    return float(value)


def _refuse_lens(frame: Frame) -> None:
    """Raises InputError for what is no bent pinhole, or bent in another way than k1..k4, p1, p2."""
    model = str(frame.lens.get("camera_model", "OPENCV")).upper()
    bent = [key for key in UNKNOWN_DISTORTION if _is_bent(frame, key)]
    if frame.lens.get("is_fisheye"):  # as instant-ngp marks them
        model = "fisheye"
    if frame.lens.get("latlong"):
        model = "latlong"
    if bent or model not in _PINHOLE_MODELS:
        raise InputError(
            f"{frame.where}: the lens has distortion ({', '.join(bent) or model}), which cannot be "
            "undone on reading: undistort the images first (colmap image_undistorter) and use its "
            "output."
        )


def _is_bent(frame: Frame, key: str) -> bool:
    value = frame.lens.get(key)
    if isinstance(value, list):
        return any(part != 0 for part in value)
    return value is not None and _number(frame, key) != 0.0
