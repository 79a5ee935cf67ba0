"""Views from the frames of a `transforms*.json`: shared by the MAD and the Blender reader."""

from pathlib import Path

from ..capture import View
from ..errors import InputError
from .transforms import Frame, find_images, frame_camera


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
