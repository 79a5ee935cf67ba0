"""COLMAP captures: `images/` and `sparse/0/{cameras,images,points3D}.bin` or `.txt`.

The model may also lie in `sparse/` itself; among several, the one with most images is taken.
"""

import logging
from pathlib import Path, PureWindowsPath

import numpy as np
import torch
from torch import Tensor

from ..camera import Camera
from ..capture import PointCloud, View
from ..decode import read_header
from ..distortion import Distortion
from ..errors import InputError
from .colmap_files import ColmapCamera, ColmapImage, read_cameras, read_images, read_points
from .folders import folders_in, list_images, natural_key
from .lenses import Orientations, checked_camera, fits, refuse_turned
from .matrices import FARTHEST, compose
from .object_masks import check_masks, mask_beside

MARKER = "sparse/ with images.bin or images.txt"
_UNDISTORT = (
    "colmap image_undistorter --image_path {images} --input_path {model} --output_path undistorted"
)
# number of focal lengths of the models that can be made a pinhole
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
        InputError: damaged files, a lens that is no bent pinhole, or registered images that are
            missing or of another size.
    """
    model = _largest(root)
    cameras = read_cameras(model)
    folder = root / "images"
    registered = [i for i in read_images(model) if not i.name.startswith("test/")]
    orientations = Orientations()
    views = [_view(image, cameras, folder, model, orientations) for image in registered]
    orientations.say()
    found = len(list_images(folder).images) if folder.is_dir() else 0
    _log.info("registered %d of %d images (%s)", len(views), found, model)
    points = _usable(read_points(model), model)
    cloud = PointCloud(
        torch.from_numpy(points[:, :3]).float(), torch.from_numpy(points[:, 3:] / 255).float()
    )
    check_masks(views, root)
    views.sort(key=lambda view: natural_key(Path(view.name)))
    return tuple(views), cloud if len(points) else None


def true_poses(root: Path) -> dict[str, Tensor]:
    """Poses of registered images in test/ by query name, world_to_camera [4, 4] float64.

    Raises:
        InputError: damaged files.
    """
    model = _largest(root)
    poses = {}
    for image in read_images(model):
        if image.name.startswith("test/"):
            name = image.name.removeprefix("test/")
            pose = _pose(image, f"{model}, image {image.name}")
            poses[Path(name).with_suffix("").as_posix()] = pose
    return poses


def _largest(root: Path) -> Path:
    """The model with most images."""
    return max(_model_folders(root), key=lambda folder: len(read_images(folder)))


def _usable(points: np.ndarray, model: Path) -> np.ndarray:
    """The points [M, 6] without those that lie nowhere."""
    is_near = (np.abs(points[:, :3]) <= FARTHEST).all(axis=1)  # false for NaN
    is_colour = ((points[:, 3:] >= 0) & (points[:, 3:] <= 255)).all(axis=1)
    kept = points[is_near & is_colour]
    if len(kept) < len(points):
        _log.warning(
            "%d of %d points of %s have no place, one too far away, or no colour: left out",
            len(points) - len(kept), len(points), model,
        )  # fmt: skip
    return kept


def _view(
    image: ColmapImage, cameras: dict[int, ColmapCamera], folder: Path, model: Path,
    orientations: Orientations,
) -> View:  # fmt: skip
    inside = PureWindowsPath(image.name)  # knows both kinds of slashes, and drives
    if not image.name or inside.anchor or ".." in inside.parts or "\0" in image.name:
        raise InputError(
            f"{model} registers the image {image.name!r}, which lies outside of {folder}: give "
            "names relative to that folder."
        )
    path = folder / image.name
    if not path.is_file():
        raise InputError(
            f"{model} registers {image.name}, but {folder} has no such image: restore it."
        )
    if image.camera_id not in cameras:
        raise InputError(f"{model}: image {image.name} names camera {image.camera_id}, which is "
                         "not in its cameras file: export the model again.")  # fmt: skip
    where, stated_lens = f"{model}, image {image.name}", cameras[image.camera_id]
    camera = _camera(stated_lens, image, folder, model)
    lens = _distortion(stated_lens, camera, where)
    camera = camera if lens is None else lens.pinhole(camera)
    header, stated = read_header(path), (camera.width, camera.height)
    if not fits(header.size, stated):
        refuse_turned(path, header, stated, where)
        raise InputError(
            f"{path} is {header.size[0]} x {header.size[1]} pixels but its COLMAP camera "
            f"{camera.width} x {camera.height}: use the images from which the model was made."
        )
    orientations.add(path, header, stated)
    name = (Path("images") / image.name).with_suffix("").as_posix()
    mask = mask_beside(folder.parent, image.name)
    return View(name, path, camera.resized(*header.size), lens, mask)


def _distortion(lens: ColmapCamera, camera: Camera, where: str) -> Distortion | None:
    """What COLMAP's further parameters mean: k1, k2, p1, p2, then k3 and the divisor's k4 to k6."""
    further = lens.parameters[_FOCAL_LENGTHS[lens.model] + 2 :]
    if lens.model in ("SIMPLE_RADIAL", "RADIAL"):
        return Distortion.of(camera, where, further)
    k1, k2, p1, p2, *others = (*further, *(0.0,) * 8)[:8]
    return Distortion.of(camera, where, (k1, k2, others[0]), (p1, p2), tuple(others[1:]))


def _camera(lens: ColmapCamera, image: ColmapImage, folder: Path, model: Path) -> Camera:
    where = f"{model}, image {image.name}"
    count = _FOCAL_LENGTHS.get(lens.model)
    if count is None:
        raise InputError(
            f"{where}: the camera model {lens.model} has lens distortion, which cannot be undone on"
            f" reading: run `{_UNDISTORT.format(images=folder, model=model)}` and use its output."
        )
    if len(lens.parameters) < count + 2 or not np.isfinite(lens.parameters).all():
        raise InputError(
            f"{where}: its camera has missing or non-finite values: export the model again."
        )
    if min(lens.parameters[:count]) <= 0:
        raise InputError(f"{where}: its focal length is zero: export the model again.")
    fx, fy = lens.parameters[0], lens.parameters[count - 1]
    cx, cy = lens.parameters[count : count + 2]
    pose = _pose(image, where)
    return checked_camera(where, pose, (fx, fy), (cx, cy), (lens.width, lens.height))


def _pose(image: ColmapImage, where: str) -> Tensor:
    """World_to_camera [4, 4] float64. Raises InputError."""
    quaternion = np.array(image.quaternion)
    if not np.isfinite([*quaternion, *image.translation]).all():
        raise InputError(f"{where}: its pose has non-finite values: export the model again.")
    farthest = max(abs(value) for value in image.translation)
    if farthest > FARTHEST or max(abs(quaternion)) > FARTHEST:
        raise InputError(
            f"{where}: it lies {farthest:.3g} units from the origin, farther than the "
            f"{FARTHEST:g} that can be computed with, or its rotation is no quaternion: correct it."
        )
    if np.linalg.norm(quaternion) < 1e-6:
        raise InputError(f"{where}: its rotation is zero: export the model again.")
    return compose(_rotation(quaternion / np.linalg.norm(quaternion)), np.array(image.translation))


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Unit quaternion wxyz to [3, 3] float64."""
    w, (x, y, z) = quaternion[0], quaternion[1:]
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * skew + 2 * skew @ skew
