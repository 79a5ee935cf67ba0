"""Reading captures: the format is recognised by what lies in the folder. Nothing is written.

A format is one entry of `FORMATS`; commands, error texts and true poses follow from it.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..camera import Camera
from ..capture import Capture, PointCloud, Query, View
from ..errors import InputError
from ..files import reading
from ..survey import survey_images
from ..world import World, world_for
from . import blender, colmap, mad
from .folders import check_unique_names, class_name, find_capture_folder, folders_in
from .labels import check_good_labels, label_summary
from .queries import capture_queries, queries_in

_log = logging.getLogger(__name__)

__all__ = [
    "FORMATS", "CaptureFormat", "label_summary", "read_capture", "read_queries", "true_poses",
]  # fmt: skip


@dataclass(frozen=True)
class CaptureFormat:
    """How one kind of folder is told from others and read, all in the frame of the files."""

    title: str  # as people call it
    marker: str  # what lies in such a folder, for errors and docs/formats.md
    recognises: Callable[[Path], bool]
    read: Callable[[Path], tuple[tuple[View, ...], PointCloud | None]]  # at the files' size
    true_poses: Callable[[Path], dict[str, Tensor]]  # query name to world_to_camera [4, 4] float64
    is_map: Callable[[Path], bool] = lambda path: False  # files in test/ that are no photographs
    test_folders: tuple[str, ...] = ("test",)  # where queries may lie; the first that is there


# The first that recognises a folder reads it.
FORMATS: dict[str, CaptureFormat] = {
    "mad": CaptureFormat("MAD", mad.MARKER, mad.recognises, mad.read, mad.true_poses),
    "blender": CaptureFormat(
        "Blender",
        blender.MARKER,
        blender.recognises,
        blender.read,
        blender.true_poses,
        blender.is_map,
    ),
    "colmap": CaptureFormat(
        "COLMAP",
        colmap.MARKER,
        colmap.recognises,
        colmap.read,
        colmap.true_poses,
        test_folders=("test", "images/test"),
    ),
}


def read_capture(
    source: str | Path,
    resolution: int = 400,
    good_labels: Collection[str] = (),  # folders of good images, beside those called good, ok, ...
) -> Capture:
    """Reads a capture of any supported format (docs/formats.md).

    Args:
        source: the folder; `MAD-Sim/Gorilla` also finds `MAD-Sim/01Gorilla`.
        resolution: the longer side of all images, pixels; smaller images are not enlarged.

    Raises:
        InputError: anything that the user can fix.
        ValueError: `resolution` is not positive.
    """
    if resolution < 1:
        raise ValueError(f"resolution must be positive, not {resolution}")
    with reading(source):
        root = find_capture_folder(source)
        name = _recognise(root)
        views, points = FORMATS[name].read(root)
        if not views:
            raise InputError(f"{root} has no train views: add frames for its train images.")
        check_unique_names((view.name for view in views), root)
        views = tuple(replace(v, camera=_fitted(v.camera, resolution)) for v in views)
        masked = all(view.mask_path is not None for view in views)
        survey = survey_images([view.image_path for view in views], masked)
        _say_lens(views)
        form = FORMATS[name]
        queries = capture_queries(root, good_labels, form.is_map, form.test_folders)
        check_good_labels(queries, good_labels)
        world = world_for([view.camera for view in views])
        if world != World():
            views, points = _moved(views, points, world)
        return Capture(
            class_name(root), root, name, views, queries, survey.background, points, world,
            survey.white,
        )  # fmt: skip


def read_queries(source: str | Path, good_labels: Collection[str] = ()) -> tuple[Query, ...]:
    """Queries from an image file, a folder of images, a capture, or the `test` folder of one.

    Raises:
        InputError: see `scene.readers.queries.queries_in`.
    """
    path = Path(source).expanduser()
    with reading(path):
        root = path.parent if path.name.casefold() == "test" else path
        name = _format_of(root)
        is_map = FORMATS[name].is_map if name is not None else lambda path: False
        return queries_in(path, good_labels, is_map, name is not None and root == path)


def true_poses(capture: Capture) -> dict[str, Tensor]:
    """Query name to world_to_camera [4, 4] float64; empty where the data set keeps no test poses.

    For scoring alone: nothing in the method may read them. In the frame of the capture's cameras
    (`capture.world`).

    Raises:
        InputError: the file of test poses is damaged.
    """
    with reading(capture.root):
        poses = FORMATS[capture.format].true_poses(capture.root)
    known = {query.name for query in capture.queries}
    return {n: capture.world.into_model(pose) for n, pose in poses.items() if n in known}


def _say_lens(views: tuple[View, ...]) -> None:
    bent = [view for view in views if view.lens is not None]
    if bent:
        _log.info(
            "the lens distortion of %d of %d train views is undone on reading, and that of "
            "queries, which are taken to come from the same camera", len(bent), len(views),
        )  # fmt: skip


def _recognise(root: Path) -> str:
    name = _format_of(root)
    if name is not None:
        return name
    captures = [folder.name for folder in folders_in(root) if _format_of(folder)]
    if captures:
        raise InputError(
            f"{root} holds {len(captures)} captures: name one of them ({', '.join(captures)})."
        )
    markers = " nor ".join(f"{form.marker} ({form.title})" for form in FORMATS.values())
    raise InputError(
        f"{root} is not a capture: neither {markers} lies there; see docs/formats.md. "
        "From photographs without poses prepare.py makes one."
    )


def _format_of(root: Path) -> str | None:
    return next((name for name, form in FORMATS.items() if form.recognises(root)), None)


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
