"""COLMAP captures: `images/` and `sparse/0/{cameras,images,points3D}.bin` or `.txt`.

The model may also lie in `sparse/` itself; among several, the one with most images is taken.
"""

import logging
from pathlib import Path

import numpy as np
import torch

from ..camera import Camera
from ..capture import PointCloud, View
from ..errors import InputError
from ..images import image_size
from .colmap_files import ColmapCamera, ColmapImage, read_cameras, read_images, read_points
from .folders import folders_in, images_in, natural_key
from .matrices import compose

MARKER = "sparse/ with images.bin or images.txt"
_UNDISTORT = (
    "colmap image_undistorter --image_path {images} --input_path {model} --output_path undistorted"
)
# models that are a pinhole when every further parameter is zero: number of focal lengths
_FOCAL_LENGTHS = {
    "SIMPLE_PINHOLE": 1, "PINHOLE": 2, "SIMPLE_RADIAL": 1, "RADIAL": 1, "OPENCV": 2,
    "FULL_OPENCV": 2,
}  # fmt: skip
_log = logging.getLogger(__name__)


def _model_folders(root: Path) -> list[Path]:
    """Every folder of a capture in which a COLMAP model lies."""
    sparse = root / "sparse"
    if not sparse.is_dir():
        return []
    folders = [*folders_in(sparse), sparse]
    return [f for f in folders if any((f / f"images.{form}").is_file() for form in ("bin", "txt"))]


def recognises(root: Path) -> bool:
    """Whether the folder is of this format."""
    return bool(_model_folders(root))


def read(root: Path) -> tuple[tuple[View, ...], PointCloud | None]:
    """The registered views of the largest model, and its sparse points (None without any).

    Raises:
        InputError: damaged files, lens distortion, or registered images that are missing
            or of another size.
    """
    models = {folder: read_images(folder) for folder in _model_folders(root)}
    model = max(models, key=lambda folder: len(models[folder]))
    cameras = read_cameras(model)
    folder = root / "images"
    registered = [i for i in models[model] if not i.name.startswith("test/")]
    views = [_view(image, cameras, folder, model) for image in registered]
    _log.info("registered %d of %d images (%s)", len(views), _count_images(folder), model)
    points = read_points(model)
    cloud = PointCloud(
        torch.from_numpy(points[:, :3]).float(), torch.from_numpy(points[:, 3:] / 255).float()
    )
    views.sort(key=lambda view: natural_key(Path(view.name)))
    return tuple(views), cloud if len(points) else None


def _count_images(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return len(images_in(folder)) + sum(len(images_in(f)) for f in folders_in(folder))


def _view(image: ColmapImage, cameras: dict[int, ColmapCamera], folder: Path, model: Path) -> View:
    path = folder / image.name
    if not path.is_file():
        raise InputError(
            f"{model} registers {image.name}, but {folder} has no such image: restore it."
        )
    if image.camera_id not in cameras:
        raise InputError(f"{model}: image {image.name} names camera {image.camera_id}, which is "
                         "not in its cameras file: export the model again.")  # fmt: skip
    camera = _camera(cameras[image.camera_id], image, folder, model)
    size = image_size(path)
    if abs(camera.height * size[0] / camera.width - size[1]) > 1:
        raise InputError(
            f"{path} is {size[0]} x {size[1]} pixels but its COLMAP camera {camera.width} x "
            f"{camera.height}: use the images from which the model was made."
        )
    name = (Path("images") / image.name).with_suffix("").as_posix()
    return View(name, path, camera.resized(*size))


def _camera(lens: ColmapCamera, image: ColmapImage, folder: Path, model: Path) -> Camera:
    where = f"{model}, image {image.name}"
    count = _FOCAL_LENGTHS.get(lens.model)
    if count is None or any(lens.parameters[count + 2 :]):
        raise InputError(
            f"{where}: the camera model {lens.model} has lens distortion, which cannot be rendered:"
            f" run `{_UNDISTORT.format(images=folder, model=model)}` and use its output."
        )
    quaternion = np.array(image.quaternion)
    numbers = [*lens.parameters, *quaternion, *image.translation]
    if len(lens.parameters) < count + 2 or not np.isfinite(numbers).all():
        raise InputError(f"{where}: its camera or pose has missing or non-finite values: export "
                         "the model again.")  # fmt: skip
    if np.linalg.norm(quaternion) < 1e-6 or min(lens.parameters[:count]) <= 0:
        raise InputError(f"{where}: its rotation or focal length is zero: export the model again.")
    fx, fy = lens.parameters[0], lens.parameters[count - 1]
    cx, cy = lens.parameters[count : count + 2]
    pose = compose(_rotation(quaternion / np.linalg.norm(quaternion)), np.array(image.translation))
    return Camera(pose, fx, fy, cx, cy, lens.width, lens.height)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Unit quaternion wxyz to [3, 3] float64."""
    w, (x, y, z) = quaternion[0], quaternion[1:]
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * skew + 2 * skew @ skew
