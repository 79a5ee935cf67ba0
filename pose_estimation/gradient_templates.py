"""Templates of gradient directions: scattered points of the object as seen from many places."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera, InputError
from scene.se3 import camera_centres

from .gallery import Gallery
from .gradients import (
    BINS,
    Floats,
    Whole,
    colours_of,
    direction_bins,
    edges,
    nearest_colours,
    palette_of,
    scattered,
)
from .viewpoints import fibonacci_sphere, look_at

CONTOUR, INNER, COLOURED = 60, 26, 30  # points of a template
_FEWER = (30, 13, 20)  # of them, for the search: 63 responses of 4 fit into a byte
_RADIUS = 26.0  # pixels: the object's rms radius in a template, unless train views show it smaller
_SIZE = 7.0  # of a rendered template, in rms radii
_DIRECTIONS = 400  # over the whole sphere: about 10 degrees apart
_TRUSTED = math.radians(25.0)  # farthest direction from a train view that is rendered
_COLOURS = 10  # of the palette
_SOLID = 0.95  # alpha of what is inside
_CORES = (5, 3, 1)  # pixels a side by which the inside is eroded: the first that leaves enough
_CLEAR_CONTOUR, _CLEAR_EDGE = 0.12, 0.03  # strengths of alpha and of colour, per pixel
_HALF_WAY = 0.3  # from alpha 0.5: a contour is where its slope is, not beside it
_ENOUGH = 0.2  # an edge that strong is as good as any


@dataclass(frozen=True)
class GradientTemplates:
    """V views of an object, each reduced to N points."""

    poses: Tensor  # [V, 4, 4] float64 world_to_camera; they look at the object's centre
    points: Floats  # [V, N, 2] pixels from the centre: contour, inner edges, colours
    directions: Floats  # [V, E] across the edges at the first of them, radians
    colours: Whole  # [V, N - E] in the palette, of the others
    palette: Floats  # [K, 3], see `colours_of`
    centre: Tensor  # [3] float64, of the object, world
    distance: float  # of the cameras from the centre, world units
    nearest: float  # least distance of the train views
    farthest: float
    focal: float  # pixels

    def __len__(self) -> int:
        return len(self.points)

    def channels(self, views: Whole, rolls: NDArray[np.floating]) -> Whole:
        """The response channels [..., N] of views [...] rolled by radians [...]."""
        bins = direction_bins(self.directions[views] + rolls[..., None])
        return np.concatenate([bins, BINS + self.colours[views]], axis=-1)

    def thinned(self) -> "GradientTemplates":
        """With fewer points, which are spread over the object as well."""
        contour, inner, coloured = _FEWER
        edges_kept = np.r_[:contour, CONTOUR : CONTOUR + inner]
        kept = np.r_[edges_kept, CONTOUR + INNER : CONTOUR + INNER + coloured]
        return replace(
            self,
            points=self.points[:, kept],
            directions=self.directions[:, edges_kept],
            colours=self.colours[:, :coloured],
        )


@dataclass(frozen=True)
class _Points:
    """One view."""

    points: Floats  # [N, 2]
    directions: Floats  # [CONTOUR + INNER]
    colours: Floats  # [COLOURED, 3]


def make_gradient_templates(model: ObjectRenderer, gallery: Gallery) -> GradientTemplates:
    """Renders the object from wherever the train views come near.

    Raises InputError when it shows nothing from there.
    """
    offsets = camera_centres(gallery.world_to_camera) - gallery.centre
    distances = offsets.norm(dim=1)
    distance, radius = float(distances.median()), float(gallery.radius)
    shown = float(gallery.lenses[:, :2].mean()) * radius / distance
    focal = min(_RADIUS, shown) * distance / radius
    size = 2 * math.ceil(_SIZE / 2 * min(_RADIUS, shown))
    sphere = fibonacci_sphere(_DIRECTIONS)
    seen = torch.nn.functional.normalize(offsets, dim=1)
    poses, found = [], []
    for direction in sphere[(sphere @ seen.T).amax(dim=1) >= math.cos(_TRUSTED)]:
        pose = look_at(gallery.centre + distance * direction, gallery.centre)
        camera = Camera(pose, focal, focal, size / 2, size / 2, size, size)
        points = _points(model, camera)
        if points is not None:
            poses.append(pose)
            found.append(points)
    if not found:
        raise InputError("the model shows no object, so it gives no templates: train it again")
    every = np.concatenate([one.colours for one in found])
    palette = palette_of(every, _COLOURS)
    return GradientTemplates(
        poses=torch.stack(poses),
        points=np.stack([one.points for one in found]),
        directions=np.stack([one.directions for one in found]),
        colours=nearest_colours(every, palette).reshape(-1, COLOURED),
        palette=palette,
        centre=gallery.centre,
        distance=distance,
        nearest=float(distances.min()),
        farthest=float(distances.max()),
        focal=focal,
    )


def _points(model: ObjectRenderer, camera: Camera) -> _Points | None:
    """The template of one view; None where the object does not show."""
    with torch.no_grad():
        rendering = model(camera)
    image = np.ascontiguousarray(rendering.image.clamp(0, 1).permute(1, 2, 0).cpu().numpy())
    alpha = rendering.alpha.cpu().numpy()
    contour_direction, contour_strength = edges(alpha)
    inner_direction, inner_strength = edges(image)
    half_way = np.abs(cv2.GaussianBlur(alpha, (0, 0), 1.0) - 0.5) < _HALF_WAY
    contour = _places((contour_strength > _CLEAR_CONTOUR) & half_way)
    cores = [cv2.erode((alpha > _SOLID).astype(np.uint8), np.ones((k, k))) > 0 for k in _CORES]
    core = next((core for core in cores if core.sum() >= COLOURED), cores[-1])
    if not len(contour) or not core.any():
        return None
    inner = _places((cores[0]) & (inner_strength > _CLEAR_EDGE))
    outer = contour[scattered(contour.astype(np.float32), CONTOUR + INNER)]
    at = tuple(outer.T[::-1])
    positions, directions = outer, contour_direction[at]
    if len(inner) >= INNER:
        weights = np.minimum(inner_strength[tuple(inner.T[::-1])], _ENOUGH)
        chosen = inner[scattered(inner.astype(np.float32), INNER, weights)]
        positions = np.concatenate([outer[:CONTOUR], chosen])
        directions = np.concatenate([directions[:CONTOUR], inner_direction[tuple(chosen.T[::-1])]])
    inside = _places(core)
    coloured = inside[scattered(inside.astype(np.float32), COLOURED)]
    offset = np.array([camera.cx, camera.cy]) - 0.5  # pixel 0 lies at 0.5
    return _Points(
        (np.concatenate([positions, coloured]) - offset).astype(np.float32),
        directions,
        colours_of(image)[tuple(coloured.T[::-1])],
    )


def _places(mask: NDArray[np.bool_]) -> Whole:
    """The pixels (x, y) [M, 2] of a mask [H, W]."""
    return np.argwhere(mask)[:, ::-1]
