"""MAD, and the two data sets that follow its layout: MIP (PIAD) and RAD.

    <class>/transforms.json, train/good/0.png, test/<label>/0.png, ground_truth/<label>/0_mask.png

MIP has `train/*.png` without `good`, masks without `_mask`, and several normal folders `good_*`;
RAD writes its names in lower case.
"""

import logging
from pathlib import Path

from torch import Tensor

from ..capture import PointCloud, View
from .folders import list_images
from .point_ply import read_point_ply
from .transforms import point_file, query_poses, read_frames, views_of

MARKER = "transforms.json"
_NOT_TRAINING = ("test", "val", "ground_truth")
_log = logging.getLogger(__name__)


def recognises(root: Path) -> bool:
    """Whether the folder is of this format."""
    return (root / MARKER).is_file()


def read(root: Path) -> tuple[tuple[View, ...], PointCloud | None]:
    """The posed views, without frames of test or validation images, and nerfstudio's points.

    Raises:
        InputError: see `scene.readers.transforms`.
    """
    frames = read_frames(root / MARKER, for_training=True)
    kept = [f for f in frames if f.file_path.split("/")[0].casefold() not in _NOT_TRAINING]
    views = views_of(kept, root)
    _report_unposed(root, views)
    points = point_file(root / MARKER)
    return views, None if points is None else read_point_ply(points)


def true_poses(root: Path) -> dict[str, Tensor]:
    """Poses of the queries by name, world_to_camera [4, 4] float64; empty without their file.

    Raises:
        InputError: the file is damaged.
    """
    return query_poses(root / "test_poses.json")


def _report_unposed(root: Path, views: tuple[View, ...]) -> None:
    train = root / "train"
    if not train.is_dir():
        return
    posed = {view.image_path for view in views}
    unposed = [path for path in list_images(train).images if path not in posed]
    if unposed:
        _log.warning(
            "%d images in %s have no frame in transforms.json and are not used (the first is %s)",
            len(unposed), train, unposed[0].name,
        )  # fmt: skip
