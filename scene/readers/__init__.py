"""Reading captures: the format is recognised by what lies in the folder. Nothing is written."""

import logging
from dataclasses import replace
from pathlib import Path

from ..camera import Camera
from ..capture import Capture, CaptureFormat, PointCloud, View
from ..errors import InputError
from ..images import detect_background
from ..world import World, world_for
from . import blender, colmap, mad
from .folders import check_unique_names, class_name, find_capture_folder, folders_in
from .queries import capture_queries, read_queries
from .truth import true_poses

_log = logging.getLogger(__name__)

__all__ = ["read_capture", "read_queries", "true_poses"]


def read_capture(source: str | Path, resolution: int = 400) -> Capture:
    """Reads a capture of any supported format (docs/formats.md).

    Args:
        source: the folder; `MAD-Sim/Gorilla` also finds `MAD-Sim/01Gorilla`.
        resolution: the longer side of all images, pixels; smaller images are not enlarged.

    Raises:
        InputError: anything that the user can mend.
        ValueError: `resolution` is not positive.
    """
    if resolution < 1:
        raise ValueError(f"resolution must be positive, not {resolution}")
    root = find_capture_folder(source)
    form = _recognise(root)
    points: PointCloud | None = None
    if form == "colmap":
        views, points = colmap.read_model(root)
    else:
        views = {"mad": mad, "blender": blender}[form].train_views(root)
    if not views:
        raise InputError(f"{root} has no train views: add frames for its train images.")
    check_unique_names((view.name for view in views), root)
    views = tuple(replace(v, camera=_fitted(v.camera, resolution)) for v in views)
    background = detect_background([view.image_path for view in views])
    queries = capture_queries(root)
    world = world_for([view.camera for view in views])
    if world != World():
        views, points = _moved(views, points, world)
    return Capture(class_name(root), root, form, views, queries, background, points, world)


def _recognise(root: Path) -> CaptureFormat:
    if (root / "transforms.json").is_file():
        return "mad"
    if (root / "transforms_train.json").is_file():
        return "blender"
    if colmap.model_folders(root):
        return "colmap"
    classes = [f.name for f in folders_in(root) if (f / "transforms.json").is_file()]
    if classes:
        raise InputError(
            f"{root} holds {len(classes)} classes: name one of them ({', '.join(classes)})."
        )
    raise InputError(
        f"{root} is not a capture: neither transforms.json (MAD) nor transforms_train.json "
        "(Blender) nor a COLMAP model in sparse/ lies there; see docs/formats.md."
    )


def _moved(
    views: tuple[View, ...], points: PointCloud | None, world: World
) -> tuple[tuple[View, ...], PointCloud | None]:
    """Cameras and points in the frame that is computed in."""
    _log.info(
        "computed in units of %g, from the origin (%g, %g, %g): results are in those of the files",
        world.unit, *world.origin,
    )  # fmt: skip
    views = tuple(
        replace(v, camera=v.camera.at(world.into_model(v.camera.world_to_camera))) for v in views
    )
    if points is not None:
        points = points._replace(xyz=world.points_into_model(points.xyz.double()).float())
    return views, points


def _fitted(camera: Camera, resolution: int) -> Camera:
    longer = max(camera.width, camera.height)
    if longer <= resolution:
        return camera
    size = [max(1, round(side * resolution / longer)) for side in (camera.width, camera.height)]
    return camera.resized(*size)
