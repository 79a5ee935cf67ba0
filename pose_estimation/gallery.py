"""The gallery: what the coarse stage needs to know about the object, made once after training."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from scene import Camera, Gaussians, InputError, atomic_write

from .templates import (
    PLAIN_GREY,
    Template,
    object_extent,
    rendered_templates,
    thumbnail,
    whole_frame,
)

_VERSION = 1


@dataclass
class Gallery:
    """Train views and templates of one object. Arrays only, so that it is stored as it is."""

    centre: Tensor  # [3] float64, of the object
    radius: Tensor  # [] float64, root-mean-square distance of its surface from the centre
    background: Tensor  # [3] float32, or [0] when no single colour stands behind the object
    world_to_camera: Tensor  # [V, 4, 4] float64, of the train views
    lenses: Tensor  # [V, 6] float64: fx, fy, cx, cy, width, height
    pictures: Tensor  # [P] uint8: PNG files of the train views, one after the other
    picture_ends: Tensor  # [V] int64: where each ends in `pictures`
    template_poses: Tensor  # [T, 4, 4] float64, world_to_camera
    template_rays: Tensor  # [T, 2] float64, silhouette centroids in normalised image coordinates
    template_scales: Tensor  # [T] float64, rms radii of the silhouettes on the plane z = 1
    template_views: Tensor  # [T] int64, the train view of each template; -1 for a rendered one
    thumbnails: Tensor  # [T, 4, RADII, ANGLES] float16

    def __len__(self) -> int:
        return self.world_to_camera.shape[0]

    def camera(self, view: int) -> Camera:
        """The camera of a train view."""
        fx, fy, cx, cy, width, height = self.lenses[view].tolist()
        return Camera(self.world_to_camera[view], fx, fy, cx, cy, int(width), int(height))

    def picture(self, view: int) -> Tensor:
        """The picture of a train view, [3, H, W] float32 in 0..1, with 8 bits a channel."""
        start = int(self.picture_ends[view - 1]) if view else 0
        encoded = self.pictures[start : int(self.picture_ends[view])].numpy()
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        if decoded is None:
            raise InputError(f"picture {view} of the gallery is damaged: run train.py again")
        return torch.from_numpy(decoded[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255)

    @property
    def known_background(self) -> Tensor | None:
        """The colour behind the object [3], or None."""
        return self.background if self.background.numel() else None


def build_gallery(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # V of [3, H, W] in 0..1, as seen by the cameras
    silhouettes: Sequence[Tensor] | None,  # V of [H, W] bool; None without a plain background
    background: Tensor | None,  # [3]; None without a plain background
    *,
    backend: str = "auto",
    threads: int = 1,
    rendered_directions: int | None = None,
) -> Gallery:
    """Makes the gallery of a trained object from its train views.

    The coarse stage compares with templates rendered from `rendered_directions` viewpoints spread
    over the sphere, near enough to the train views for the model to be trusted: they are denser
    than the views and close gaps between them. None takes a number that the backend renders in
    seconds; 0, or an unknown background, makes the train views themselves the templates.

    Raises InputError when there is no view in which the object can be seen.
    """
    colour = PLAIN_GREY if background is None else background.float().cpu()
    templates: list[Template] = []
    if silhouettes is not None and background is not None:
        templates = rendered_templates(
            gaussians, cameras, colour, rendered_directions, backend=backend, threads=threads
        )
    if not templates:
        templates = _photographed_templates(cameras, images, silhouettes, colour)
    if not templates:
        raise InputError(
            "no train view shows anything but the background, so no gallery can be made: check the "
            "images and the background colour"
        )
    centre, radius = object_extent(gaussians)
    return _assemble(centre, radius, background, cameras, images, templates)


def _photographed_templates(
    cameras: Sequence[Camera],
    images: Sequence[Tensor],
    silhouettes: Sequence[Tensor] | None,
    colour: Tensor,
) -> list[Template]:
    """The train views themselves; those without a silhouette are left out."""
    templates = []
    for view, (camera, image) in enumerate(zip(cameras, images, strict=True)):
        mask = whole_frame(image) if silhouettes is None else silhouettes[view]
        made = thumbnail(camera, image, mask, colour, view)
        templates += [made] if made is not None else []
    return templates


def _assemble(
    centre: Tensor,
    radius: Tensor,
    background: Tensor | None,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],
    templates: Sequence[Template],
) -> Gallery:
    pictures, ends = _encode(images)
    return Gallery(
        centre=centre,
        radius=radius,
        background=torch.empty(0) if background is None else background.float().cpu(),
        world_to_camera=torch.stack([camera.world_to_camera for camera in cameras]),
        lenses=torch.tensor(
            [[c.fx, c.fy, c.cx, c.cy, c.width, c.height] for c in cameras], dtype=torch.float64
        ),
        pictures=pictures,
        picture_ends=ends,
        template_poses=torch.stack([t.world_to_camera for t in templates]),
        template_rays=torch.tensor([t.ray for t in templates], dtype=torch.float64),
        template_scales=torch.tensor([t.scale for t in templates], dtype=torch.float64),
        template_views=torch.tensor([t.view for t in templates]),
        thumbnails=torch.stack([t.thumbnail for t in templates]).half(),
    )


def save_gallery(gallery: Gallery, path: str | Path) -> None:
    """Writes one .npz file, atomically. Raises InputError when the disk is full."""
    arrays = {field.name: getattr(gallery, field.name).numpy() for field in fields(gallery)}
    with atomic_write(path) as file:
        np.savez(file, version=np.array(_VERSION), **arrays)


def load_gallery(path: str | Path) -> Gallery:
    """Reads what `save_gallery` wrote.

    Raises InputError when the file is missing, damaged, or from another version.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            version = int(archive["version"])
            if version == _VERSION:
                return Gallery(
                    **{f.name: torch.from_numpy(archive[f.name]) for f in fields(Gallery)}
                )
    except FileNotFoundError:
        raise InputError(f"there is no gallery {path}: run train.py again") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"the gallery {path} is damaged ({error}): run train.py again") from error
    raise InputError(
        f"the gallery {path} has version {version}, this program needs {_VERSION}: "
        "run train.py again"
    )


def _encode(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """PNG files of pictures [3, H, W] one after the other, and where each ends."""
    encoded = []
    for image in images:
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
        encoded.append(cv2.imencode(".png", bgr)[1].ravel())
    lengths = torch.tensor([len(picture) for picture in encoded])
    return torch.from_numpy(np.concatenate(encoded)), lengths.cumsum(0)
