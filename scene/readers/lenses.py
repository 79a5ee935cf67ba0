"""Lenses as files state them, held against ranges and against the images."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..camera import Camera
from ..decode import Header
from ..errors import InputError

_MAX_SIDE = 1e6  # pixels
_FOCAL = (1e-3, 1e5)  # times the longer side: from 180 degrees less a thousandth to a telescope
_CENTRE = 1e3  # times the longer side, from the corner
_SQUARE = 0.05  # how far the ratio of the focal lengths may be from one without a word
_log = logging.getLogger(__name__)


def checked_camera(
    where: str, pose: Tensor, focal: tuple[float, float], centre: tuple[float, float],
    size: tuple[float, float],
) -> Camera:  # fmt: skip
    """A camera whose numbers can be computed with; `where` names it in the errors.

    Raises:
        InputError: a number is not finite or far beyond what a camera can have.
    """
    longer = max(size)
    if not (min(size) >= 1 and longer <= _MAX_SIDE):
        raise InputError(
            f"{where}: the size is {size[0]:g} x {size[1]:g} pixels: correct it, each side is 1 to "
            f"{_MAX_SIDE:,.0f}."
        )
    for value in focal:
        if not _FOCAL[0] * longer <= value <= _FOCAL[1] * longer:
            raise InputError(
                f"{where}: the focal length is {value:g} pixels in an image of {size[0]:g} x "
                f"{size[1]:g}: correct it."
            )
    if not all(abs(value) <= _CENTRE * longer for value in centre):
        raise InputError(
            f"{where}: the principal point is ({centre[0]:g}, {centre[1]:g}): correct cx and cy."
        )
    return Camera(pose, *focal, *centre, round(size[0]), round(size[1]))


def fits(found: tuple[int, int], stated: Sequence[float]) -> bool:
    """Whether two sizes have one aspect ratio; a pixel of rounding is allowed in the coarser."""
    scale = stated[0] / found[0]
    return abs(found[1] * scale - stated[1]) <= max(1.0, scale)


def refuse_turned(path: Path, header: Header, stated: Sequence[float], where: str) -> None:
    """For an image that does not fit the stated size: says so where EXIF explains it.

    Raises:
        InputError: the size is that of the image as viewers turn it.
    """
    if header.turned_size != header.size and fits(header.turned_size, stated):
        raise InputError(
            f"{where}: {path} is stored as {header.size[0]} x {header.size[1]} pixels and its EXIF "
            f"orientation ({header.orientation}) turns it, while its pose is for {stated[0]:g} x "
            f"{stated[1]:g}: turn the pixels themselves (for example exiftran -a, or magick "
            "mogrify -auto-orient)."
        )


class Orientations:
    """Gathers train images with an EXIF orientation of which no size says whether it counts."""

    def __init__(self) -> None:
        self.doubtful: list[Path] = []

    def add(self, path: Path, header: Header, stated: Sequence[float] | None) -> None:
        """`stated` is the size for which the pose was found; None where nothing says."""
        if header.orientation == 1:
            return
        is_known = stated is not None and not fits(header.turned_size, stated)
        if not is_known:
            self.doubtful.append(path)

    def say(self) -> None:
        """One line for all of them."""
        if self.doubtful:
            _log.warning(
                "%d train images have an EXIF orientation (the first is %s), which is ignored: if "
                "the poses were found with turned images, the model will be wrong; then turn the "
                "pixels themselves (for example exiftran -a)",
                len(self.doubtful), self.doubtful[0],
            )  # fmt: skip


def say_pixel_aspect(cameras: Sequence[Camera], path: Path) -> None:
    """Says once where pixels are far from square: seldom true, often a wrong export."""
    ratios = [camera.fy / camera.fx for camera in cameras]
    worst = max(ratios, key=lambda ratio: abs(math.log(ratio)), default=1.0)
    if abs(worst - 1.0) > _SQUARE:
        _log.warning(
            "%s says that pixels are %.2f times as high as wide: if they are square, remove the "
            "vertical focal length", path, 1 / worst,
        )  # fmt: skip
