"""What a calibration stood on beside the train views, so that renewing it loses none of that."""

import json
import zipfile
from dataclasses import dataclass, field

import numpy as np

from anomaly import ScoreDistribution
from scene import InputError

from .calibration import Calibration
from .model_folder import ModelFolder
from .remedies import calibrate_again
from .seals import check_seal


@dataclass(frozen=True)
class Remembered:
    """As far as the files of an earlier calibration still tell, be they damaged or outdated."""

    photographs: int = 0  # of good parts
    good: str = ""  # their folder
    folds: int = 0
    pooled: dict[str, ScoreDistribution] = field(default_factory=dict)  # of the folds; whole ones


def remembered(folder: ModelFolder) -> Remembered:
    """Reads what can be read."""
    photographs = _count_photographs(folder)
    try:
        stored = json.loads(folder.calibration_path.read_bytes())
        pooled = stored.get("pooled", {})
        models = [each.get("models", 1) for each in (*stored["scores"].values(), *pooled.values())]
        counts = [each.get("photographs", 0) for each in stored["scores"].values()]
        folds, good = max(models, default=1), str(stored.get("good", ""))
        photographs = max([photographs, *counts, int(bool(good))])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Remembered(photographs)
    try:
        check_seal(stored)
        whole = Calibration.from_json(stored).pooled
    except (InputError, KeyError, TypeError, ValueError):
        whole = {}
    return Remembered(photographs, good, folds if folds > 1 else 0, whole)


def refuse_to_forget(before: Remembered, folder: ModelFolder) -> None:
    """Raises InputError when photographs of good parts would be lost by calibrating without."""
    if before.photographs:
        command = calibrate_again(folder.root, before.good or "FOLDER")
        raise InputError(
            f"the calibration of '{folder.root}' stands on photographs of good parts too: "
            f"{command}, or drop them with --without-good"
        )


def _count_photographs(folder: ModelFolder) -> int:
    """Of good parts, among the images that the calibration keeps."""
    try:
        with np.load(folder.calibration_views_path, allow_pickle=False) as archive:
            return int(archive["photographs"])
    except (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return 0
