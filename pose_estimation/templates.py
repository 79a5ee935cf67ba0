"""Templates: thumbnails of the object with the camera pose from which each was seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gaussian_renderer import available_backends, render
from scene import Camera, Gaussians, silhouette
from scene.se3 import camera_centres

from .hypotheses import angular_scale, ray_of
from .polar import outline, planes, polar_thumbnails

_SIZE = 200  # side of a rendered template, pixels
_RADIUS_SHARE = 0.15  # of the side: the object's rms radius in a rendered template
_TRUSTED = math.radians(25.0)  # farthest direction from a train view that is rendered
_DIRECTIONS = 800  # over the whole sphere: about 7 degrees apart
_EXTENT_SAMPLE = 8192
_SLOW_BACKENDS = ("reference",)
PLAIN_GREY = torch.full((3,), 0.5)  # stands for the background where none is known


@dataclass(frozen=True)
class Template:
    """One view of the object, reduced to what the coarse stage compares."""

    world_to_camera: Tensor  # [4, 4] float64
    ray: tuple[float, float]  # centroid of the silhouette, normalised image coordinates
    scale: float  # rms radius of the silhouette on the plane z = 1
    view: int  # index of the train view, -1 for a rendered one
    thumbnail: Tensor  # [4, RADII, ANGLES]


def object_extent(gaussians: Gaussians) -> tuple[Tensor, Tensor]:
    """Centre [3] and root-mean-square radius [] of the Gaussians, by opacity, float64.

    The outermost hundredth along every axis is left out, so that floaters do not count; of many
    Gaussians an even sample is taken.
    """
    stride = max(1, len(gaussians) // _EXTENT_SAMPLE)
    means = gaussians.means.detach()[::stride].double()
    weights = gaussians.opacity_logits.detach()[::stride].double().sigmoid()
    shares = torch.tensor([0.01, 0.99]).to(means, non_blocking=True)
    low, high = torch.quantile(means, shares, dim=0)
    inside = ((means >= low) & (means <= high)).all(dim=1)
    weights = weights * inside
    weights = weights / weights.sum().clamp_min(1e-12)
    centre = weights @ means
    radius = (weights @ ((means - centre) ** 2).sum(1)).sqrt().clamp_min(1e-9)
    *place, size = torch.cat([centre, radius[None]]).tolist()  # one wait for a GPU
    return torch.tensor(place, dtype=torch.float64), torch.tensor(size, dtype=torch.float64)


def thumbnail(
    camera: Camera,
    image: Tensor,  # [3, H, W]
    silhouette: Tensor,  # [H, W] bool
    background: Tensor,  # [3]
    view: int,
) -> Template | None:
    """The template of one picture, or None when its silhouette is empty."""
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


def differs(image: Tensor, background: Tensor) -> Tensor:
    """What of pictures [..., 3, H, W] is not of the colour `background` [3], [..., H, W] bool.

    The background is given on the host.
    """
    red, green, blue = background.tolist()
    return silhouette(image, (red, green, blue))


def whole_frame(image: Tensor) -> Tensor:
    """The silhouettes [..., H, W] to use where the background is not known: everything."""
    return torch.ones_like(image[..., 0, :, :], dtype=torch.bool)


def rendered_templates(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    background: Tensor,  # [3]
    directions: int | None = None,
    *,
    backend: str = "auto",
    threads: int = 1,
) -> list[Template]:
    """Templates rendered from directions spread evenly over what the train views saw.

    They make the gallery dense where the train views have gaps, up to 25 degrees from the nearest
    view. `directions` counts the whole sphere; None takes 800, or none on a backend too slow.
    """
    if directions is None:
        names = available_backends(gaussians.means.device) if backend == "auto" else [backend]
        directions = 0 if names[0] in _SLOW_BACKENDS else _DIRECTIONS
    if directions == 0:
        return []
    centre, radius = object_extent(gaussians)
    offsets = camera_centres(torch.stack([c.world_to_camera for c in cameras])) - centre
    distance = float(offsets.norm(dim=1).median())
    seen = torch.nn.functional.normalize(offsets, dim=1)
    sphere = fibonacci_sphere(directions)
    trusted = (sphere @ seen.T).amax(dim=1) >= math.cos(_TRUSTED)
    focal = _RADIUS_SHARE * _SIZE * distance / float(radius)
    colour = background.cpu()
    templates = []
    with torch.no_grad():
        for direction in sphere[trusted]:
            pose = look_at(centre + distance * direction, centre)
            camera = Camera(pose, focal, focal, _SIZE / 2, _SIZE / 2, _SIZE, _SIZE)
            seen_here = render(gaussians, camera, background, backend=backend, threads=threads)
            image = seen_here.image.clamp(0, 1).cpu()
            made = thumbnail(camera, image, differs(image, colour), colour, view=-1)
            templates += [made] if made is not None else []
    return templates


def fibonacci_sphere(count: int) -> Tensor:
    """Unit vectors [count, 3] float64, nearly evenly spread (golden-angle spiral)."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    longitude = math.pi * (1 + math.sqrt(5.0)) * index
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * longitude.cos(), ring * longitude.sin(), z], dim=-1)


def look_at(position: Tensor, target: Tensor) -> Tensor:
    """World_to_camera [4, 4] of a camera at `position` [3] that looks at `target` [3]; any roll."""
    forward = torch.nn.functional.normalize(target - position, dim=0)
    helper = torch.zeros(3, dtype=forward.dtype)
    helper[int(forward.abs().argmin())] = 1.0
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, helper), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    pose = torch.eye(4, dtype=forward.dtype)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ position
    return pose
