"""The gallery: what the coarse stage needs to know about the object, made once after training."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from scene import Camera, InputError, atomic_write, damage_named

_VERSION = 1
_FORMER_NAMES = {"images": "pictures", "image_ends": "picture_ends"}  # in older files


@dataclass
class Gallery:
    """Train views and templates of one object. Arrays only, so that it is stored as it is.

    A matcher that needs more adds a field that is None by default: it is stored where it is known,
    and galleries without it still load.
    """

    centre: Tensor  # [3] float64, of the object
    radius: Tensor  # [] float64, root-mean-square distance of its surface from the centre
    world_to_camera: Tensor  # [V, 4, 4] float64, of the train views
    lenses: Tensor  # [V, 6] float64: fx, fy, cx, cy, width, height
    images: Tensor  # [P] uint8: PNG files of the train views, one after the other
    image_ends: Tensor  # [V] int64: where each ends in `images`
    template_poses: Tensor  # [T, 4, 4] float64, world_to_camera
    template_rays: Tensor  # [T, 2] float64, silhouette centroids in normalised image coordinates
    template_scales: Tensor  # [T] float64, rms radii of the silhouettes on the plane z = 1
    template_views: Tensor  # [T] int64, the train view of each template; -1 for a rendered one
    thumbnails: Tensor  # [T, 4, RADII, ANGLES] float16
    background: Tensor | None = None  # [3] float32, where a single colour stands behind the object
    landmark_points: Tensor | None = None  # [M, 3] float32, world; see landmarks.py
    landmark_descriptors: Tensor | None = None  # [M, 128] uint8
    landmark_views: Tensor | None = None  # [M] int64, the train view each is described from

    def __post_init__(self) -> None:
        if self.background is not None and not self.background.numel():
            self.background = None  # as files from before there were optional arrays have it

    def __len__(self) -> int:
        return self.world_to_camera.shape[0]

    def camera(self, view: int) -> Camera:
        """The camera of a train view."""
        fx, fy, cx, cy, width, height = self.lenses[view].tolist()
        return Camera(self.world_to_camera[view], fx, fy, cx, cy, int(width), int(height))

    def image(self, view: int) -> Tensor:
        """The image of a train view, [3, H, W] float32 in 0..1, with 8 bits a channel."""
        start = int(self.image_ends[view - 1]) if view else 0
        encoded = self.images[start : int(self.image_ends[view])].numpy()
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        if decoded is None:
            raise InputError(f"image {view} of the gallery is damaged: run calibrate.py")
        return torch.from_numpy(decoded[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255)


def save_gallery(gallery: Gallery, path: str | Path) -> None:
    """Writes one .npz file, atomically. Raises InputError when the disk is full."""
    known = {name: array.numpy() for name, array in vars(gallery).items() if array is not None}
    with atomic_write(path) as file:
        np.savez(file, version=np.array(_VERSION), **known)


def load_gallery(path: str | Path) -> Gallery:
    """Reads what `save_gallery` wrote.

    Raises InputError when the file is missing, damaged, or from another version.
    """
    with damage_named(path, "run calibrate.py"), np.load(path, allow_pickle=False) as archive:
        version = int(archive["version"])
        if version == _VERSION:
            arrays = {}
            for field in fields(Gallery):
                former = _FORMER_NAMES.get(field.name, field.name)
                name = former if former in archive else field.name
                if name in archive or field.default is MISSING:
                    arrays[field.name] = torch.from_numpy(archive[name])
            gallery = Gallery(**arrays)
            for tensor in (gallery.world_to_camera, gallery.lenses, gallery.template_poses):
                if not tensor.isfinite().all():
                    raise ValueError("a camera that is not finite")
            return gallery
    raise InputError(
        f"the gallery {path} has version {version}, this program needs {_VERSION}: run calibrate.py"
    )
