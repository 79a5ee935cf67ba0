"""NeRF-synthetic captures: `transforms_train.json`, images named without extension, mostly RGBA.

`transforms_val.json` and `transforms_test.json` are never used for training; the images in `test/`
are the queries, and their poses are read for scoring alone (`scene.true_poses`).
"""

from pathlib import Path

from ..capture import View
from .posed import views_of
from .transforms import read_frames


def train_views(root: Path) -> tuple[View, ...]:
    """The posed views of the training split.

    Raises:
        InputError: see `scene.readers.transforms`.
    """
    return views_of(read_frames(root / "transforms_train.json"), root)
