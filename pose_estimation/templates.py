"""Makes a gallery: its templates are thumbnails with the camera poses from which each was seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer, available_backends
from scene import Camera, InputError
from scene.se3 import camera_centres

from .gallery import Gallery
from .hypotheses import angular_scale, ray_of
from .landmarks import make_landmarks
from .thumbnails import PLAIN_GREY, differs, outline, planes, polar_thumbnails, whole_frame
from .viewpoints import fibonacci_sphere, look_at, object_extent

_SIZE = 200  # side of a rendered template, pixels
_RADIUS_SHARE = 0.15  # of the side: the object's rms radius in a rendered template
_TRUSTED = math.radians(25.0)  # farthest direction from a train view that is rendered
_DIRECTIONS = 800  # over the whole sphere: about 7 degrees apart
_SLOW_BACKENDS = ("reference",)


@dataclass(frozen=True)
class Template:
    """One view of the object, reduced to what the coarse stage compares."""

    world_to_camera: Tensor  # [4, 4] float64
    ray: tuple[float, float]  # centroid of the silhouette, normalised image coordinates
    scale: float  # rms radius of the silhouette on the plane z = 1
    view: int  # index of the train view, -1 for a rendered one
    thumbnail: Tensor  # [4, RADII, ANGLES]


def build_gallery(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # V of [3, H, W] in 0..1, as seen by the cameras
    silhouettes: Sequence[Tensor] | None,  # V of [H, W] bool; None without a plain background
    *,
    rendered_directions: int | None = None,
) -> Gallery:
    """Makes the gallery of a trained object from its train views.

    The coarse stage compares with templates rendered from `rendered_directions` viewpoints spread
    over the sphere, near enough to the train views for the model to be trusted: they are denser
    than the views and close gaps between them. None takes a number that the backend renders in
    seconds; 0, or a background that is not plain, makes the train views themselves the templates.

    Raises InputError when there is no view in which the object can be seen.
    """
    background = None if silhouettes is None else model.background.float().cpu()
    templates: list[Template] = []
    if background is not None:
        templates = _rendered_templates(model, cameras, background, rendered_directions)
    if not templates:
        colour = PLAIN_GREY if background is None else background
        templates = _photographed_templates(cameras, images, silhouettes, colour)
    if not templates:
        raise InputError(
            "no train view shows anything but the background, so no gallery can be made: check the "
            "images and the background colour"
        )
    return _assemble(model, background, cameras, images, templates)


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
        made = _template(camera, image, mask, colour, view)
        templates += [made] if made is not None else []
    return templates


def _assemble(
    model: ObjectRenderer,
    background: Tensor | None,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],
    templates: Sequence[Template],
) -> Gallery:
    centre, radius = object_extent(model.gaussians)
    encoded, ends = _encode(images)
    landmarks = make_landmarks(model, cameras, images)
    return Gallery(
        centre=centre,
        radius=radius,
        background=background,
        world_to_camera=torch.stack([camera.world_to_camera for camera in cameras]),
        lenses=torch.tensor(
            [[c.fx, c.fy, c.cx, c.cy, c.width, c.height] for c in cameras], dtype=torch.float64
        ),
        images=encoded,
        image_ends=ends,
        template_poses=torch.stack([t.world_to_camera for t in templates]),
        template_rays=torch.tensor([t.ray for t in templates], dtype=torch.float64),
        template_scales=torch.tensor([t.scale for t in templates], dtype=torch.float64),
        template_views=torch.tensor([t.view for t in templates]),
        thumbnails=torch.stack([t.thumbnail for t in templates]).half(),
        landmark_points=landmarks.points,
        landmark_descriptors=landmarks.descriptors,
        landmark_views=landmarks.views,
    )


def _rendered_templates(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    background: Tensor,  # [3] on the host
    directions: int | None,
) -> list[Template]:
    """Templates rendered from directions spread evenly over what the train views saw.

    They make the gallery dense where the train views have gaps, up to 25 degrees from the nearest
    view. `directions` counts the whole sphere; None takes 800, or none on a backend too slow.
    """
    if directions is None:
        device, backend = model.gaussians.means.device, model.backend
        name = available_backends(device)[0] if backend == "auto" else backend
        directions = 0 if name in _SLOW_BACKENDS else _DIRECTIONS
    if directions == 0:
        return []
    centre, radius = object_extent(model.gaussians)
    offsets = camera_centres(torch.stack([c.world_to_camera for c in cameras])) - centre
    distance = float(offsets.norm(dim=1).median())
    seen = torch.nn.functional.normalize(offsets, dim=1)
    sphere = fibonacci_sphere(directions)
    trusted = (sphere @ seen.T).amax(dim=1) >= math.cos(_TRUSTED)
    focal = _RADIUS_SHARE * _SIZE * distance / float(radius)
    templates = []
    with torch.no_grad():
        for direction in sphere[trusted]:
            pose = look_at(centre + distance * direction, centre)
            camera = Camera(pose, focal, focal, _SIZE / 2, _SIZE / 2, _SIZE, _SIZE)
            image = model(camera).image.clamp(0, 1).cpu()
            made = _template(camera, image, differs(image, background), background, view=-1)
            templates += [made] if made is not None else []
    return templates


def _template(
    camera: Camera,
    image: Tensor,  # [3, H, W]
    silhouette: Tensor,  # [H, W] bool
    background: Tensor,  # [3]
    view: int,
) -> Template | None:
    """The template of one image, or None when its silhouette is empty."""
    shape = outline(silhouette)
    if shape is None:
        return None
    thumbnails, _ = polar_thumbnails(
        planes(image, silhouette, background),
        torch.tensor([shape.centre]),
        torch.tensor([shape.scale]),
    )
    return Template(
        camera.world_to_camera,
        ray_of(camera, *shape.centre),
        angular_scale(camera, shape.scale),
        view,
        thumbnails[0],
    )


def _encode(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """PNG files of images [3, H, W] one after the other, and where each ends."""
    encoded = []
    for image in images:
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
        encoded.append(cv2.imencode(".png", bgr)[1].ravel())
    lengths = torch.tensor([len(file) for file in encoded])
    return torch.from_numpy(np.concatenate(encoded)), lengths.cumsum(0)
