"""The folder that train.py leaves, calibrate.py completes and detect.py reads (docs/formats.md).

`config.json` is the last file of a training: a folder without it is unfinished. `calibration.json`
is the last file of a calibration and names the content of all files that belong together.
"""

import contextlib
import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from scene import (
    Camera,
    Capture,
    Distortion,
    Gaussians,
    InputError,
    View,
    World,
    atomic_write,
    check_numbers,
    damage_named,
    folder_lock,
    load_ply,
    read_json,
    save_ply,
    write_json,
)
from scene.decode import read_header

from .calibration import UNSEALED, VERSION, Calibration
from .presets import DETECTION
from .remedies import LEARN_AGAIN, calibrate_again, train_again
from .seals import check_seal, is_sealed, sealed, sha256_of

_CAMERA_LIMITS = {
    "fx": (1e-3, 1e11), "fy": (1e-3, 1e11), "cx": (-1e9, 1e9), "cy": (-1e9, 1e9),
    "width": (1, 1e6), "height": (1, 1e6),
}  # fmt: skip
FORMAT = 1  # raised when an older detect.py could no longer read the folder
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
        """Pose check, scores of good images, and the hashes of the files that they belong to."""
        return self.root / "calibration.json"

    @property
    def normal_model_path(self) -> Path:
        """What normal looks like: residuals anchored on the Gaussians."""
        return self.root / "normal_model.npz"

    @property
    def calibration_views_path(self) -> Path:
        """The good images that set the threshold, at the poses that were found."""
        return self.root / "calibration_views.npz"

    @property
    def zones_path(self) -> Path:
        """Zones of the surface that a person painted (zones.py); most models have none."""
        return self.root / "zones.npz"

    @property
    def progress_path(self) -> Path:
        """Pictures of the training (train.py --view)."""
        return self.root / "progress"

    @property
    def report_path(self) -> Path:
        """The calibration for people."""
        return self.root / "calibration.html"

    def fold(self, number: int, count: int, views: Sequence[str]) -> "ModelFolder":
        """Where the model without one of `count` folds of these views lies until all are done."""
        digest = hashlib.sha256("\n".join(views).encode()).hexdigest()[:8]
        return ModelFolder(self.root / "folds" / f"{number}_of_{count}_{digest}")

    def point_cloud_path(self, iteration: int) -> Path:
        """Where 3DGS viewers look for the Gaussians."""
        return self.root / "point_cloud" / f"iteration_{iteration}" / "point_cloud.ply"

    def is_finished(self) -> bool:
        """Whether a run has ended here."""
        return self.config_path.is_file()

    def clear(self) -> None:
        """Forgets the run in this folder; detections and foreign files stay."""
        for path in (
            self.config_path, self.settings_path, self.checkpoint_path, self.metrics_path,
            self.gallery_path, self.calibration_path, self.normal_model_path,
            self.calibration_views_path, self.train_poses_path, self.report_path, self.zones_path,
            self.root / "cameras.json",
        ):  # fmt: skip
            path.unlink(missing_ok=True)
        for inner in ("point_cloud", "folds", "progress"):
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
        self._refuse_folders()
        if not self.is_finished():
            hint = "run the same train.py command again, it resumes"
            if not self.settings_path.is_file():
                hint = "name the folder that train.py wrote (-m)"
            raise InputError(f"model folder '{self.root}' is unfinished (no config.json): {hint}")
        remedy = f"restore it, or {LEARN_AGAIN}"
        config = read_json(self.config_path, remedy)
        with damage_named(self.config_path, remedy):
            if config["format"] != FORMAT:
                raise InputError(
                    f"model folder '{self.root}' has format {config['format']}, this version reads "
                    f"{FORMAT}: train it again with --overwrite, or use the version that made it"
                )
            _check_config(config)
            if is_sealed(config):
                check_seal(config)
        return config

    def load_gaussians(self, iteration: int) -> Gaussians:
        """The Gaussians of one iteration. Raises InputError if the file is missing or broken."""
        try:
            return load_ply(self.point_cloud_path(iteration))
        except InputError as error:
            what, _, _ = str(error).rpartition(": ")
            raise InputError(f"{what}: restore the file, or {self._train_again()}") from error

    def _train_again(self) -> str:
        """The command that makes the Gaussians anew, as far as config.json tells."""
        try:
            return train_again(self.root, self.load_config()["settings"])
        except InputError:
            return LEARN_AGAIN

    def derived_files(self) -> dict[Path, bytes]:
        """What calibrate.py has written, calibration.json last."""
        paths = (
            self.gallery_path, self.normal_model_path, self.calibration_views_path,
            self.calibration_path,
        )  # fmt: skip
        return {path: path.read_bytes() for path in paths if path.is_file()}

    def restore(self, files: dict[Path, bytes]) -> None:
        """Writes what `derived_files` gave, in its order."""
        for path, content in files.items():
            with atomic_write(path) as file:
                file.write(content)

    def save_calibration(self, calibration: Calibration, iteration: int) -> None:
        """Writes calibration.json, which seals the files that were written before it."""
        paths = self._sealed(iteration).items()
        hashes = {name: sha256_of(path) for name, path in paths if path.is_file()}
        write_json(self.calibration_path, sealed(calibration.as_json() | {"files": hashes}))

    def load_calibration(self, iteration: int) -> Calibration:
        """What calibrate.py left.

        Raises InputError when there is none, it is of another version or damaged, or one of the
        files is not the one that it was made with (an edited point cloud, a flipped bit).
        """
        self._refuse_folders()
        renew = calibrate_again(self.root)
        if not self.calibration_path.is_file():
            raise InputError(f"model folder '{self.root}' is not calibrated: {renew}")
        stored = read_json(self.calibration_path, renew)
        with damage_named(self.calibration_path, renew):
            renew = calibrate_again(self.root, str(stored.get("good", "")))
            if stored["version"] not in (VERSION, UNSEALED):
                raise InputError(
                    f"'{self.calibration_path}' was made by another version of this program: "
                    f"{renew}"
                )
            if stored["version"] != UNSEALED:
                check_seal(stored)
            expected, calibration = stored["files"], Calibration.from_json(stored)
            for name, path in self._sealed(iteration).items():
                if path.is_file() != (name in expected) or (
                    name in expected and sha256_of(path) != expected[name]
                ):
                    if name == "point_cloud":
                        self.load_gaussians(iteration)  # says so where calibrating cannot help
                    raise InputError(
                        f"'{path}' is not the file that '{self.root}' was calibrated with: {renew}"
                    )
        return calibration

    def identity(self) -> dict[str, Any]:
        """What tells this model, calibrated as it is, from every other, and the program's commit.

        Raises InputError when the folder is not complete.
        """
        self.load_config()
        paths = [self.config_path, self.calibration_path]
        paths += [self.zones_path] * self.zones_path.is_file()
        return {path.name: sha256_of(path) for path in paths} | {"commit": _commit()}

    def _sealed(self, iteration: int) -> dict[str, Path]:
        """The files that a calibration belongs to; some models lack some of them."""
        return {
            "point_cloud": self.point_cloud_path(iteration), "gallery": self.gallery_path,
            "normal_model": self.normal_model_path, "views": self.calibration_views_path,
        }  # fmt: skip

    def _refuse_folders(self) -> None:
        """Raises InputError when a folder lies where a file belongs."""
        derived = self.gallery_path, self.normal_model_path, self.calibration_views_path
        learned = (
            self.config_path, self.settings_path, self.checkpoint_path, self.train_poses_path,
            self.metrics_path, *self.root.glob("point_cloud/*/point_cloud.ply"),
        )  # fmt: skip
        for path in (*derived, self.calibration_path, *learned):
            if path.is_dir():
                remedy = LEARN_AGAIN if path in learned else calibrate_again(self.root)
                raise InputError(
                    f"'{path}' is a folder, where a file belongs: move it away and {remedy}"
                )

    @contextlib.contextmanager
    def lock(self, option: str = "-m") -> Iterator[None]:
        """Holds the folder for one writer; the system lets go when the process dies.

        What a killed writer had not finished is removed. Raises InputError when another process
        holds the folder, or it cannot be written.
        """
        with folder_lock(self.root, option):
            self._refuse_folders()
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
    if background is not None:
        red, green, blue = background
        channels = {"red": red, "green": green, "blue": blue}
        check_numbers(channels, dict.fromkeys(channels, (0, 1)))
    check_numbers(config["camera"], _CAMERA_LIMITS)
    check_numbers(settings, {
        "iterations": (1, 1e9), "resolution": (1, 1e6), "sh_degree": (0, 3),
        "seed": (-(2**63), 2**63),
    })  # fmt: skip
    if settings["max_gaussians"] is not None:
        check_numbers(settings, {"max_gaussians": (1, 1e12)})
    for name in ("views", "held_out"):
        if not isinstance(config[name], list) or not all(isinstance(v, str) for v in config[name]):
            raise TypeError(f"{name} is no list of names")
    if config.get("white") is not None:
        check_numbers(config, {"white": (1e-6, 1e6)})
    World.from_json(config.get("world"))
    Distortion.from_json(config.get("lens"))


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
    fx, fy, cx, cy = (float(values[name]) for name in ("fx", "fy", "cx", "cy"))
    width, height = int(values["width"]), int(values["height"])
    return Camera(torch.eye(4, dtype=torch.float64), fx, fy, cx, cy, width, height)


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


def write_config(
    folder: ModelFolder,
    capture: Capture,
    settings: dict[str, Any],
    views: tuple[View, ...],  # that were trained on
    held_out: tuple[View, ...],
    figures: dict[str, Any],  # n_gaussians, held_out_quality, training_seconds
) -> None:
    """Writes config.json, whose presence says that training is finished; scratch files go."""
    document = {
        "format": FORMAT,
        "name": capture.name,
        "settings": settings,
        **lens_of_queries(views),
        "background": capture.background,
        "world": asdict(capture.world),
        "white": capture.white,
        "exif_ignored": any(read_header(view.image_path).orientation != 1 for view in views),
        "views": [view.name for view in views],
        "held_out": [view.name for view in held_out],
        **figures,
        **provenance(),
    }
    write_json(folder.config_path, sealed(document))
    folder.checkpoint_path.unlink(missing_ok=True)
    folder.settings_path.unlink(missing_ok=True)


def check_world(folder: ModelFolder, capture: Capture) -> None:
    """Raises InputError when an older version computed the finished model in another frame."""
    if World.from_json(folder.load_config().get("world")) != capture.world:
        raise InputError(
            f"'{folder.root}' was computed in other units by another version of this program: "
            "train it again with --overwrite"
        )


def lens_of_queries(views: tuple[View, ...]) -> dict[str, Any]:
    """The camera and lens that queries are taken to have: those of most train views."""
    lenses = [camera_to_json(view.camera) for view in views]
    chosen = max(lenses, key=lenses.count)  # the first of equals
    lens = views[lenses.index(chosen)].lens
    if lenses.count(chosen) < len(lenses):
        print(
            f"the train views have several lenses: queries are taken to have that of "
            f"{lenses.count(chosen)} of {len(lenses)} views (focal length {chosen['fx']:.1f} "
            f"pixels at {chosen['width']} x {chosen['height']}); with another, distances are wrong"
        )
    return {"camera": chosen, "lens": None if lens is None else lens.as_json()}


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
