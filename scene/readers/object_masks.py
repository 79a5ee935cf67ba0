"""Masks of train views as files of their own: where the object is, the rest is transparent."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..capture import View
from ..decode import IMAGE_SUFFIXES
from ..errors import InputError

FOLDER = "masks"
_log = logging.getLogger(__name__)


def mask_beside(root: Path, name: str) -> Path | None:
    """The mask of image `name` in masks/: cup.jpg.png (COLMAP's) or cup.png; None without one."""
    path = root / FOLDER / name
    endings = [ending for suffix in IMAGE_SUFFIXES for ending in (suffix, suffix.upper())]
    candidates = [path.with_name(path.name + ending) for ending in endings]
    candidates += [path.with_suffix(ending) for ending in endings]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def check_masks(views: Sequence[View], root: Path) -> None:
    """Says that masks are used.

    Raises:
        InputError: some views have one and some have none.
    """
    without = [view.name for view in views if view.mask_path is None]
    if len(without) == len(views):
        return
    if without:
        raise InputError(
            f"{len(without)} of {len(views)} train views in {root} have no mask (the first is "
            f"{without[0]}): add their masks or remove all."
        )
    _log.info("%d masks say where the object is: the rest is transparent", len(views))
