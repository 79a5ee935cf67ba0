"""The keys of transforms*.json: which are honoured, which are refused, which say nothing to us.

nerfstudio, instant-ngp, Blender's exporters, Polycam, Record3D and D-NeRF write them.
"""

import logging
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
UNKNOWN_DISTORTION = (
    "k5", "k6", "s1", "s2", "s3", "s4", "distortion_params", "distortion", "fisheye_crop_radius",
)  # fmt: skip
# each axis by itself; of those on one level, the first counts
FOCAL = {axis: (f"fl_{axis}", f"camera_angle_{axis}", f"{axis}_fov") for axis in ("x", "y")}
_HONOURED = {
    "frames", "file_path", "transform_matrix", "w", "h", "cx", "cy", "camera_model", "is_fisheye",
    "train_filenames", "val_filenames", "test_filenames", *_DISTORTION, *UNKNOWN_DISTORTION,
    *FOCAL["x"], *FOCAL["y"],
    "from_mitsuba", "from_na", "rolling_shutter", "mask_path", "mask_color", "time",
    "transform_matrix_start", "transform_matrix_end", "camera_convention", "coordinate_system",
    "convention", "latlong", "ply_file_path",
}  # fmt: skip
# They frame, thin out, supervise or document what other programs do with the same images.
_WITHOUT_MEANING = {
    "aabb", "aabb_scale", "render_aabb", "scale", "offset", "up", "sharpness", "near", "far",
    "orientation_override", "applied_transform", "applied_scale", "timestamp",
    "depth_file_path", "depth_path", "depth_unit_scale_factor", "integer_depth_scale",
    "enable_depth_loading", "enable_ray_loading", "normal_file_path", "colmap_im_id", "camera_id",
    "rotation", "n_extra_learnable_dims", "white_transparent", "black_transparent", "fix_premult",
    "sharpness_discard_threshold", "auto_scale_poses_override", "exposure_time", "iso", "name",
    "id", "version", "frame_id", "image_id", "blur_score", "bbox", "cam_id", "description",
}  # fmt: skip
_OURS = ("opengl", "nerf", "blender", "gl", "rub")
_log = logging.getLogger(__name__)


def check_keys(content: Mapping[str, Any], path: Path) -> None:
    """Refuses what would make other images or poses of these, and lists unknown keys once.

    Raises:
        InputError: a key whose meaning cannot be honoured.
    """
    entries = [content, *(e for e in content["frames"] if isinstance(e, dict))]
    for entry in entries:
        reason = _refused(entry)
        if reason is not None:
            where = "" if entry is content else f", frame {entry.get('file_path')}"
            raise InputError(f"{path}{where}: {reason}.")
    times = {repr(entry["time"]) for entry in entries if "time" in entry}
    if len(times) > 1:
        raise InputError(
            f"{path}: frames of different `time` are of a scene that moves, which one model cannot "
            "show: keep the frames of one moment, or remove `time` if nothing moves."
        )
    unknown = {key for entry in entries for key in entry} - _HONOURED - _WITHOUT_MEANING
    if unknown:
        _log.warning(
            "%s holds keys that are not known and not used: %s", path, ", ".join(sorted(unknown))
        )


def _refused(entry: Mapping[str, Any]) -> str | None:
    """What a key asks for that cannot be done, and how to do without; None if there is nothing."""
    for key in ("from_mitsuba", "from_na"):
        if entry.get(key):
            return f"`{key}` means other camera axes: convert the poses to OpenGL axes"
    for key in ("camera_convention", "coordinate_system", "convention"):
        value = entry.get(key)
        if value is not None and str(value).casefold() not in _OURS:
            return f"`{key}` is {value!r}: convert the poses to OpenGL axes and remove it"
    if _is_set(entry.get("rolling_shutter")):
        return "`rolling_shutter` cannot be rendered: take the images with a global shutter"
    if entry.get("mask_color"):
        return "`mask_color` hides a part of the image: give masks by `mask_path` and remove it"
    for key in ("transform_matrix_start", "transform_matrix_end"):
        if key in entry:
            return f"`{key}` means a camera that moves during the exposure: give transform_matrix"
    return None


def _is_set(value: Any) -> bool:
    """Whether a number, or one in a list, is not zero."""
    return any(map(_is_set, value)) if isinstance(value, list) else bool(value)


def training_names(content: Mapping[str, Any], path: Path) -> tuple[set[str] | None, set[str]]:
    """The images that `train_filenames` names (None without it), and those of the other splits.

    Raises:
        InputError: a list of names is none, or names an image without a frame.
    """
    splits: dict[str, set[str] | None] = {}
    known = {normal_path(str(e.get("file_path"))) for e in content["frames"] if isinstance(e, dict)}
    for split in ("train", "val", "test"):
        names = content.get(f"{split}_filenames")
        if names is None:
            splits[split] = None
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}: `{split}_filenames` is no list of names: correct it.")
        found = {normal_path(name) for name in names}
        missing = sorted(found - known)
        if missing:
            raise InputError(
                f"{path}: `{split}_filenames` names {len(missing)} images without a frame (the "
                f"first is {missing[0]}): add their frames or remove the names."
            )
        splits[split] = found
    return splits["train"], (splits["val"] or set()) | (splits["test"] or set())


def normal_path(name: str) -> str:
    """A path of a file with "/" between folders and no leading "./"."""
    return posixpath.normpath(name.replace("\\", "/"))


def merged(shared: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """A frame's own values over those of the whole file.

    A focal length of its own, in whatever form, also takes the place of that of the file.
    """
    values = dict(shared)
    for forms in FOCAL.values():
        if any(form in entry for form in forms):
            for form in forms:
                values.pop(form, None)
    return values | dict(entry)
