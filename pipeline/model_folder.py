"""The folder that train.py leaves and detect.py reads (docs/formats.md).

`config.json` is written last: a folder without it is unfinished.
"""

import contextlib
import json
import platform
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scene import (
    Camera,
    Gaussians,
    InputError,
    View,
    atomic_write,
    damage_named,
    folder_lock,
    load_ply,
    read_json,
    save_ply,
    write_json,
)

from .presets import DETECTION

FORMAT = 1  # raised when an older detect.py could no longer read the folder
CALIBRATION = 4  # raised when calibration.json or .npz change: train.py renews older ones
CODE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class ModelFolder:
    """Paths inside one model folder, and what lies there."""

    root: Path

    @property
    def config_path(self) -> Path:
        """Settings of the finished run; its presence says that the run is finished."""
        return self.root / "config.json"

    @property
    def settings_path(self) -> Path:
        """Settings of the run in progress."""
        return self.root / "settings.json"

    @property
    def checkpoint_path(self) -> Path:
        """State of the optimisation, removed when the run is finished."""
        return self.root / "checkpoint.npz"

    @property
    def train_poses_path(self) -> Path:
        """Corrected poses of the train views, where that was asked for."""
        return self.root / "train_poses.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line: iteration, loss, PSNR, number of Gaussians, seconds."""
        return self.root / "metrics.jsonl"

    @property
    def gallery_path(self) -> Path:
        """What the coarse pose stage needs."""
        return self.root / "gallery.npz"

    @property
    def calibration_path(self) -> Path:
        """What normal looks like: thresholds and constants."""
        return self.root / "calibration.json"

    @property
    def memory_path(self) -> Path:
        """What normal looks like: residuals anchored on the Gaussians."""
        return self.root / "calibration.npz"

    def point_cloud_path(self, iteration: int) -> Path:
        """Where 3DGS viewers look for the Gaussians."""
        return self.root / "point_cloud" / f"iteration_{iteration}" / "point_cloud.ply"

    def is_finished(self) -> bool:
        """Whether a run has ended here."""
        return self.config_path.is_file()

    def is_calibration_current(self) -> bool:
        """Whether gallery and calibration, if there is one, are whole and of this version."""
        if not zipfile.is_zipfile(self.gallery_path):
            return False
        if not self.calibration_path.is_file():
            return not self.memory_path.is_file()
        try:
            stored = read_json(self.calibration_path)
        except InputError:
            return False
        if not isinstance(stored, dict) or stored.get("version") != CALIBRATION:
            return False
        return "scores" not in stored or zipfile.is_zipfile(self.memory_path)

    def clear(self) -> None:
        """Forgets the run in this folder; detections and foreign files stay."""
        for path in (
            self.config_path, self.settings_path, self.checkpoint_path, self.metrics_path,
            self.gallery_path, self.calibration_path, self.memory_path, self.train_poses_path,
            self.root / "cameras.json",
        ):  # fmt: skip
            path.unlink(missing_ok=True)
        for inner in ("point_cloud", "folds"):
            shutil.rmtree(self.root / inner, ignore_errors=True)

    @contextlib.contextmanager
    def metrics(self, iteration: int) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function that appends one line to metrics.jsonl.

        Lines of iterations after `iteration` are dropped first: a resumed run writes them again.
        """
        resumes = iteration > 0 and self.metrics_path.is_file()
        lines = self.metrics_path.read_text().splitlines() if resumes else []
        kept = [line for line in lines if _iteration_of(line) <= iteration]
        with atomic_write(self.metrics_path, "w") as file:
            file.writelines(line + "\n" for line in kept)
        with open(self.metrics_path, "a", encoding="utf-8") as log:

            def append(values: dict[str, Any]) -> None:
                log.write(json.dumps(values) + "\n")
                log.flush()

            yield append

    def save_gaussians(self, gaussians: Gaussians, iteration: int) -> None:
        """Writes the PLY of one iteration."""
        path = self.point_cloud_path(iteration)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_ply(gaussians, path)

    def load_config(self) -> dict[str, Any]:
        """Settings of the finished run. Raises InputError if there is none or it is too new."""
        if not self.root.is_dir():
            raise InputError(
                f"no model folder at '{self.root}': train one with "
                f"python train.py -s <data set> -m {self.root}"
            )
        if not self.is_finished():
            hint = "run the same train.py command again, it resumes"
            if not self.settings_path.is_file():
                hint = "name the folder that train.py wrote (-m)"
            raise InputError(f"model folder '{self.root}' is unfinished (no config.json): {hint}")
        config = read_json(self.config_path)
        with damage_named(self.config_path, "train the model again with --overwrite"):
            if config["format"] != FORMAT:
                raise InputError(
                    f"model folder '{self.root}' has format {config['format']}, this version reads "
                    f"{FORMAT}: train it again with --overwrite, or use the version that made it"
                )
            _check_config(config)
        return config

    def load_gaussians(self, iteration: int) -> Gaussians:
        """The Gaussians of one iteration. Raises InputError if the file is missing or broken."""
        return load_ply(self.point_cloud_path(iteration))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for one writer; the system lets go when the process dies.

        What a killed writer had not finished is removed. Raises InputError when another process
        holds the folder, or it cannot be written.
        """
        with folder_lock(self.root, "-m"):
            for pattern in (".*.tmp", "point_cloud/*/.*.tmp"):  # detections have other writers
                for unfinished in self.root.glob(pattern):
                    unfinished.unlink(missing_ok=True)
            yield


def _check_config(config: dict[str, Any]) -> None:
    """Touches what detection needs; raises KeyError, TypeError or ValueError without it."""
    settings = config["settings"]
    if settings["preset"] not in DETECTION:
        raise ValueError(f"no preset is called {settings['preset']!r}")
    if not isinstance(config["name"] + settings["source"], str):
        raise TypeError("name and source are no text")
    background = config["background"]
    if background is not None and len([float(channel) for channel in background]) != 3:
        raise ValueError("background has not three channels")
    camera = camera_from_json(config["camera"])
    numbers = (camera.fx, camera.fy, camera.width, camera.height, settings["iterations"])
    if min(float(number) for number in (*numbers, settings["resolution"])) <= 0:
        raise ValueError("an image size, focal length or number of iterations is not positive")


def _iteration_of(line: str) -> float:
    """Iteration of a line of metrics.jsonl; a line cut short by a kill is infinitely late."""
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError):
        return float("inf")


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """Lens and size of a camera, without its place."""
    names = ("fx", "fy", "cx", "cy", "width", "height")
    return {name: getattr(camera, name) for name in names}


def camera_from_json(values: dict[str, Any]) -> Camera:
    """The camera of `camera_to_json`, at the origin."""
    return Camera(torch.eye(4, dtype=torch.float64), **values)


def save_cameras(views: Sequence[View], path: Path) -> None:
    """cameras.json as 3DGS viewers read it: camera centre and camera-to-world rotation."""
    entries = []
    for number, view in enumerate(views):
        camera = view.camera
        entries.append(
            {
                "id": number,
                "img_name": view.name,
                "width": camera.width,
                "height": camera.height,
                "position": camera.centre.tolist(),
                "rotation": camera.world_to_camera[:3, :3].T.tolist(),
                "fx": camera.fx,
                "fy": camera.fy,
            }
        )
    write_json(path, entries)


def provenance() -> dict[str, Any]:
    """Versions that a run depends on, to be stored beside its result."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    """Git commit of the code, with "+" when there are changes on top; None outside a checkout."""
    command = ["git", "-C", str(CODE), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
