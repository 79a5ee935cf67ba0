"""MAD, and the two data sets that follow its layout: MIP (PIAD) and RAD.

    <class>/transforms.json, train/good/0.png, test/<label>/0.png, ground_truth/<label>/0_mask.png

MIP has `train/*.png` without `good`, masks without `_mask`, and several normal folders `good_*`;
RAD writes its names in lower case.
"""

import logging
from pathlib import Path

from ..capture import View
from .folders import folders_in, images_in
from .posed import views_of
from .transforms import read_frames

_NOT_TRAINING = ("test", "val", "ground_truth")
_log = logging.getLogger(__name__)


def train_views(root: Path) -> tuple[View, ...]:
    """The posed views of a MAD-like capture. Frames of test or validation images are left out.

    Raises:
        InputError: see `scene.readers.transforms`.
    """
    frames = read_frames(root / "transforms.json")
    kept = [f for f in frames if f.file_path.split("/")[0].casefold() not in _NOT_TRAINING]
    views = views_of(kept, root)
    _report_unposed(root, views)
    return views


def _report_unposed(root: Path, views: tuple[View, ...]) -> None:
    train = root / "train"
    if not train.is_dir():
        return
    posed = {view.image_path for view in views}
    images = [p for folder in (train, *folders_in(train)) for p in images_in(folder)]
    unposed = [path for path in images if path not in posed]
    if unposed:
        _log.warning(
            "%d images in %s have no frame in transforms.json and are not used (the first is %s)",
            len(unposed), train, unposed[0].name,
        )  # fmt: skip
