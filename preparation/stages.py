"""What has been done already: each stage leaves a file that names what it was made from."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scene import damage_named, read_json, write_json

from .sfm import Lens, SparseModel

_REMEDY = "add --overwrite to begin again"


class Stages:
    """The stages of one capture, one after the other."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.seconds: dict[str, float] = {}
        self._key = ""

    def run(self, name: str, settings: Any, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `work` returns (JSON values); not called again with the same settings.

        The settings of all stages before count as well.
        """
        text = json.dumps([self._key, name, settings], sort_keys=True, default=str)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        path = self.work / f"{name}.json"
        if path.is_file():
            stored = read_json(path, _REMEDY)
            with damage_named(path, _REMEDY):
                if stored["key"] == self._key:
                    self.seconds[name] = float(stored["seconds"])
                    print(f"{name}: done already")
                    return dict(stored["result"])
        started = time.monotonic()
        result = work()
        self.seconds[name] = round(time.monotonic() - started, 1)
        write_json(path, {"key": self._key, "seconds": self.seconds[name], "result": result})
        return result


def save_sparse(model: SparseModel, path: Path) -> dict[str, Any]:
    """Writes the points (.npz) and returns the rest as JSON values."""
    np.savez_compressed(path, points=model.points, colours=model.colours)
    return {
        "lenses": {camera: asdict(lens) for camera, lens in model.lenses.items()},
        "poses": {name: pose.tolist() for name, pose in model.poses.items()},
        "error": model.error,
        "settings": model.settings,
        "models": model.models,
    }


def load_sparse(stored: dict[str, Any], path: Path) -> SparseModel:
    """What `save_sparse` wrote. Raises InputError where the files are damaged."""
    with damage_named(path, _REMEDY), np.load(path, allow_pickle=False) as arrays:
        lenses = {
            camera: Lens(**(values | {"distortion": tuple(values["distortion"])}))
            for camera, values in stored["lenses"].items()
        }
        poses = {name: np.array(pose, np.float64) for name, pose in stored["poses"].items()}
        return SparseModel(
            lenses, poses, arrays["points"], arrays["colours"], stored["error"],
            stored["settings"], stored["models"],
        )  # fmt: skip
