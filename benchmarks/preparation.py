"""What prepare.py makes of photographs whose poses and masks are known but withheld.

    python -m benchmarks.preparation out/preparation --objects tin pump animal --views 84
    python -m benchmarks.preparation out/preparation --objects vehicle --turntable

Each object stands on a printed board on a table in a cluttered room, or turns before a fixed
camera (without a board); lens distortion, noise and exposure jitter as real photographs have them.
Reported are the share of photographs that find a place, the IoU of masks, how far known points of
the object are from where the poses show them, and the scale. Needs pycolmap.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pipeline.command_line import run
from preparation.geometry import similarity_between, triangulate
from preparation.sfm import Lens
from preparation.undistort import pinhole_of
from prepare import PrepareConfig, prepare
from scene import Camera, read_capture, read_json, write_json

from .common import machine
from .synthetic.capture import make_capture
from .synthetic.config import SyntheticConfig
from .synthetic.objects import Blueprint
from .synthetic.surroundings import MM_PER_UNIT

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's camera axes to OpenCV's
_FILM_DIAGONAL = 43.27  # mm, of 35 mm film
_POINTS = 64  # in the object's ball, whose images are compared


@dataclass(frozen=True)
class PreparationConfig:
    """What is measured."""

    out: tyro.conf.Positional[Path]
    """Folder for captures and figures."""
    objects: tuple[Blueprint, ...] = ("tin", "pump", "animal")
    """Kinds of objects."""
    views: int = 84
    """Photographs of each."""
    size: int = 576
    """Width and height of the photographs, pixels."""
    turntable: Annotated[bool, tyro.conf.arg(name="turntable")] = False
    """The object turns before a fixed camera."""
    seed: int = 1
    """Of object and room."""
    workers: int = 1
    """Processes that render."""
    capture: Path | None = field(default=None)
    """A capture of the generator, rendered before with --masks."""


def measure(config: PreparationConfig) -> list[dict[str, Any]]:
    """Renders, prepares and compares each object; the figures, also in preparation.json."""
    rows = []
    for name in config.objects:
        truth = config.capture or _rendered(config, name)
        started = time.monotonic()
        out = config.out / f"{truth.name}_prepared"
        prepare(PrepareConfig(_photographs(truth, config.out / f"{truth.name}_photographs"), out))
        rows.append(compare(truth, out) | {"object": name, "seconds": time.monotonic() - started})
        print(rows[-1])
    write_json(config.out / "preparation.json", {"machine": machine(2), "rows": rows})
    return rows


def compare(truth: Path, prepared: Path) -> dict[str, Any]:
    """The figures of one capture against the generator's own."""
    known = read_json(truth / "transforms.json")
    poses = {
        Path(frame["file_path"]).stem: np.linalg.inv(np.array(frame["transform_matrix"]) @ _FLIP)
        for frame in known["frames"]
    }
    lens = Lens(
        known["w"], known["h"], known["fl_x"], known["fl_y"], known["cx"], known["cy"],
        (known["k1"], known["k2"], 0.0, 0.0),
    )  # fmt: skip
    report = read_json(prepared / "prepare.json")
    (values,) = report["lenses"].values()
    fitted = Lens(**(values | {"distortion": tuple(values["distortion"])}))
    frames = read_json(prepared / "transforms.json")["frames"]
    found, masks = {}, []
    for frame in frames:
        name = Path(frame["file_path"]).stem.partition("_")[2]
        pose = np.linalg.inv(np.array(frame["transform_matrix"]) @ _FLIP)
        size = (frame["fl_x"], frame["fl_y"], frame["cx"], frame["cy"], frame["w"], frame["h"])
        found[name] = Camera(torch.from_numpy(pose), *size)
        masks.append(_mask_iou(truth, prepared / frame["file_path"], name, fitted))
    shifts, scale = _pixel_errors(found, poses, lens, fitted)
    return {
        "photographs": len(poses),
        "registered": len(found) / len(poses),
        "mask_iou_median": float(np.median(masks)),
        "mask_iou_lowest": float(np.min(masks)),
        "pose_error_px_median": float(np.median(shifts)),
        "pose_error_px_highest": float(np.max(shifts)),
        "millimetres_per_true_millimetre": scale / MM_PER_UNIT,
        "has_board": "board" in report["scale"],
        "readable": len(read_capture(prepared).views) == len(frames),
    }


def _rendered(config: PreparationConfig, name: Blueprint) -> Path:
    """The generator's capture of one object, made if it is not there yet."""
    folder = config.out / f"{name}_{'turned' if config.turntable else 'room'}_{config.views}"
    if not folder.is_dir():
        make_capture(SyntheticConfig(
            folder, seed=config.seed, blueprint=name, surroundings="room",
            rig="turntable" if config.turntable else "upper", size=config.size,
            views=config.views, queries=0, masks=True, distortion=(-0.08, 0.01),
            board=not config.turntable, exposure_jitter=0.06, sensor_noise=0.008,
            workers=config.workers,
        ))  # fmt: skip
    return folder


def _photographs(truth: Path, folder: Path) -> Path:
    """The train views as a camera writes them: JPEG, with the focal length to a millimetre."""
    focal = read_json(truth / "transforms.json")["fl_x"]
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((truth / "train" / "good").glob("*.png")):
        image = Image.open(path)
        film = focal / float(np.hypot(*image.size)) * _FILM_DIAGONAL
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = round(film)
        image.save(folder / f"{path.stem}.jpg", quality=95, exif=exif)
    return folder


def _mask_iou(truth: Path, image: Path, name: str, fitted: Lens) -> float:
    """Of one photograph, in the undistorted frame."""
    pinhole = pinhole_of(fitted)
    path = truth / "masks" / "train" / "good" / f"{name}.png"
    true = pinhole.image(_grey(path), is_mask=True) > 127
    alpha = cv2.imread(str(image), cv2.IMREAD_UNCHANGED)
    assert alpha is not None
    mask = alpha[..., 3] > 127
    return float((true & mask).sum() / max(1, (true | mask).sum()))


def _pixel_errors(
    found: dict[str, Camera], poses: dict[str, NDArray[np.float64]], lens: Lens, fitted: Lens
) -> tuple[NDArray[np.float64], float]:
    """Mean shift of points of the object in each photograph, pixels, and units per true unit.

    Points in the true object's ball are taken to where the photographs show them by the true lens
    and poses, triangulated by the found ones, and the two clouds aligned by a similarity.
    """
    names = list(found)
    random = np.random.default_rng(0)
    ball = random.normal(size=(_POINTS, 3))
    ball *= 0.7 / np.linalg.norm(ball, axis=1, keepdims=True)
    seen = np.stack([_undistorted(ball, poses[n], lens, fitted, found[n]) for n in names])
    cameras = list(found.values())
    places = [triangulate(cameras, seen[:, number]) for number in range(_POINTS)]
    kept = [number for number, place in enumerate(places) if place is not None]
    into, _ = similarity_between(ball[kept], np.array([places[number] for number in kept]))
    moved = torch.from_numpy(into.points(ball))
    shifts = []
    for camera, pixels in zip(cameras, seen, strict=True):
        shown = torch.stack(camera.project(moved)[:2], dim=1).numpy()
        shifts.append(float(np.linalg.norm(shown - pixels, axis=1).mean()))
    return np.array(shifts), into.scale


def _undistorted(
    points: NDArray[np.float64], pose: NDArray[np.float64], lens: Lens, fitted: Lens, camera: Camera
) -> NDArray[np.float64]:
    """Where the undistorted photograph shows points [N, 3], pixels [N, 2]."""
    turn, _ = cv2.Rodrigues(pose[:3, :3])
    photo, _ = cv2.projectPoints(
        points, turn, pose[:3, 3], _matrix(lens), np.array(lens.distortion)
    )
    straight = cv2.undistortPoints(
        photo, _matrix(fitted), np.array(fitted.distortion), P=camera.intrinsics.numpy()
    )  # in pixels from the corner, as cameras count
    return np.asarray(straight[:, 0], np.float64)


def _matrix(lens: Lens) -> NDArray[np.float64]:
    return np.array([[lens.fx, 0, lens.cx - 0.5], [0, lens.fy, lens.cy - 0.5], [0, 0, 1.0]])


def _grey(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(image, np.uint8)


def main() -> None:
    """Command line."""
    run(lambda: measure(tyro.cli(PreparationConfig, description=__doc__)))


if __name__ == "__main__":
    main()
