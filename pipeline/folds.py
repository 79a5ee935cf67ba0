"""A threshold from every view: cross-fitting, for the price of one more training per fold.

One view in ten kept out is too few to count a false-alarm rate of 1 %. Here the views are split
into folds; for each, a model is trained without it and scores it. The scores of all folds together
set the threshold of the model that is kept (cross-conformal prediction, Vovk 2015): every score is
that of a view that its model was not fitted to.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from anomaly import Calibration, calibrate
from anomaly.threshold import MINIMAL_COUNT
from scene import InputError, read_json, write_json

from .model_folder import ModelFolder


def check_folds(count: int, views: int) -> None:
    """Raises InputError when so many views cannot be split into `count` folds."""
    if count != 0 and not 2 <= count <= views // MINIMAL_COUNT:
        raise InputError(
            f"--folds {count}: {views} views can be split into 2 to {views // MINIMAL_COUNT} folds "
            f"of at least {MINIMAL_COUNT} views; 0 trains no further models"
        )


def fold_folder(folder: ModelFolder, fold: int) -> Path:
    """Where the model without one fold lies until all are done."""
    return folder.root / "folds" / str(fold)


def cross_fit(folder: ModelFolder, count: int, train_fold: Callable[[int], Path]) -> None:
    """Replaces the scores of the calibration by those of all folds, if that is not done yet.

    `train_fold(number)` trains the model without one fold and returns its folder; those that are
    finished are not trained again after a kill. Their folders go when the scores are written.
    Raises InputError when the model has no calibration.
    """
    path = folder.calibration_path
    document = read_json(path) if path.is_file() else {}
    if "scores" not in document:
        raise InputError(
            f"--folds: '{folder.root}' has no calibration that scores could go to: use the default "
            "preset, with views kept out"
        )
    if Calibration.from_dict(document["scores"]).models == count:
        return
    scores: list[float] = []
    for fold in range(count):
        print(f"fold {fold + 1} of {count}")
        if folder.train_poses_path.is_file():
            target = ModelFolder(fold_folder(folder, fold)).train_poses_path
            write_json(target, read_json(folder.train_poses_path))
        trained = ModelFolder(train_fold(fold))
        scores += read_json(trained.calibration_path)["scores"]["scores"]
    document["scores"] = calibrate(scores, models=count).to_dict()
    write_json(path, document)
    shutil.rmtree(folder.root / "folds")
    print(f"the threshold of {folder.root} now stands on {len(scores)} views of {count} models")
