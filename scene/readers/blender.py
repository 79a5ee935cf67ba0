"""NeRF-synthetic captures: `transforms_train.json`, images named without extension, mostly RGBA.

`transforms_val.json` and `transforms_test.json` are never used for training; the images in `test/`
are the queries, and their poses are read for scoring alone (`scene.true_poses`).
"""

from pathlib import Path

from torch import Tensor

from ..capture import View
from .transforms import query_poses, read_frames, views_of

MARKER = "transforms_train.json"


def recognises(root: Path) -> bool:
    """Whether the folder is of this format."""
    return (root / MARKER).is_file()


def read(root: Path) -> tuple[tuple[View, ...], None]:
    """The posed views of the training split; there are no points.

    Raises:
        InputError: see `scene.readers.transforms`.
    """
    return views_of(read_frames(root / MARKER), root), None


def true_poses(root: Path) -> dict[str, Tensor]:
    """Poses of the queries by name, world_to_camera [4, 4] float64; empty without their file.

    Raises:
        InputError: the file is damaged.
    """
    return query_poses(root / "transforms_test.json")
