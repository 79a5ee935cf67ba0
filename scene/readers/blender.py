"""NeRF-synthetic captures: `transforms_train.json`, images named without extension, mostly RGBA.

`transforms_val.json` and `transforms_test.json` are never used for training; the images in `test/`
are the queries, and their poses are read for scoring alone (`scene.true_poses`).
"""

import re
from pathlib import Path

from torch import Tensor

from ..capture import View
from .transforms import query_poses, read_frames, views_of

MARKER = "transforms_train.json"
_MAP = re.compile(r"_(depth|normal|alpha|disp)(_|$)", re.IGNORECASE)  # r_0_depth_0001.png


def recognises(root: Path) -> bool:
    """Whether the folder is of this format."""
    return (root / MARKER).is_file()


def read(root: Path) -> tuple[tuple[View, ...], None]:
    """The posed views of the training split; there are no points.

    Raises:
        InputError: see `scene.readers.transforms`.
    """
    return views_of(read_frames(root / MARKER, for_training=True), root), None


def is_map(path: Path) -> bool:
    """Whether a file of the test folder is a depth, normal or alpha map, not a photograph."""
    return _MAP.search(path.stem) is not None


def true_poses(root: Path) -> dict[str, Tensor]:
    """Poses of the queries by name, world_to_camera [4, 4] float64; empty without their file.

    Raises:
        InputError: the file is damaged.
    """
    return query_poses(root / "transforms_test.json")
