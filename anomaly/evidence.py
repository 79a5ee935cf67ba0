"""Several images of one object: what differs is gathered on the Gaussians.

A flash moves over the surface from image to image, a defect stays where it is. Each map is brought
onto the Gaussians that its image sees, its values become log tail probabilities, and those of all
images that see a place are summed (Fisher's combination); images from nearly one direction, which
see the same flash, count as one. How much one image alone can say is
bounded by how often good images reach such a value anywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gaussian_renderer import ObjectRenderer, contributions
from scene import Camera

from .threshold import ScoreDistribution
from .view_distance import view_angles

_POWER = 8  # of the mean over the pixels of a Gaussian: near their maximum, and still smooth
_REACH = 2  # pixels by which values spread: what sticks out beside the rim belongs to the rim
_SEEN = 0.25  # share of the area that the best train view shows, from which on a place is seen
_LEAST = 0.05  # pixels; Gaussians that colour less in an image are not seen in it
_LEVELS = np.geomspace(0.5, 1e-4, 40)  # tail probabilities of which the values are kept
_SLOPE_FROM = 1e-2  # beyond the last level the tail goes on with the slope from here
_FLASH = 1e-3  # weight of flashes
_ALIKE = math.radians(8.0)  # sigma of the angle within which images repeat each other
_LARGEST = 600.0  # sum of -log p whose combination single numbers can still hold
_RAREST = 1e-12  # tail probability of an image that is told apart from 0
_SMALLEST = 1e-6  # map value that has a logarithm


@torch.no_grad()
def surface_areas(model: ObjectRenderer, cameras: Sequence[Camera]) -> Tensor:
    """Area that each Gaussian colours in the train view that shows it best, [N], model units^2.

    Blending weights share every pixel among the Gaussians, so areas of a view add up to its
    surface; what no view shows (inner Gaussians, say) has none.
    """
    largest = torch.zeros_like(model.gaussians.means[:, 0])
    for camera in cameras:
        largest = torch.maximum(largest, _pixels(model, camera) * _pixel_area(model, camera))
    return largest


@torch.no_grad()
def project(
    model: ObjectRenderer,
    camera: Camera,  # at the pose of the image
    anomaly_map: Tensor,  # [H, W], not negative
    areas: Tensor,  # [N] of `surface_areas`
) -> Tensor:
    """Map value at each Gaussian, [N] float16; NaN where the image does not see it.

    The power mean of the map, widened by two pixels, over the Gaussian's blending weights.
    """
    width = 2 * _REACH + 1
    wide = torch.nn.functional.max_pool2d(anomaly_map[None], width, stride=1, padding=_REACH)
    unit = wide.max().clamp_min(_SMALLEST)  # powers of the ratio stay in range
    mean, pixels = model.splat(camera, (wide / unit) ** _POWER)
    value = mean[:, 0].clamp_min(0.0) ** (1 / _POWER) * unit
    seen = (pixels * _pixel_area(model, camera) >= _SEEN * areas) & (pixels >= _LEAST) & (areas > 0)
    value = value.clamp(max=torch.finfo(torch.float16).max)
    return torch.where(seen, value, torch.nan).half().cpu()


def _pixels(model: ObjectRenderer, camera: Camera) -> Tensor:
    """Sum of each Gaussian's blending weights in an image, [N], pixels."""
    return contributions(model, camera, camera.world_to_camera[None])[0]


def _pixel_area(model: ObjectRenderer, camera: Camera) -> Tensor:
    """Area of a pixel at the distance of each Gaussian, [N], model units^2; 0 behind the camera."""
    view = camera.world_to_camera.to(model.gaussians.means)
    depth = model.gaussians.means @ view[2, :3] + view[2, 3]
    return depth.clamp_min(0.0).square() / (camera.fx * camera.fy)


@dataclass(frozen=True)
class PlaceTail:
    """How rare map values are at single places of good images."""

    values: NDArray[np.float64]  # [L] ascending
    images: ScoreDistribution  # of the maxima of whole maps

    @classmethod
    def fit(
        cls,
        evidence: Sequence[Tensor],  # [N] each, of `project`, from views not fitted to
        images: ScoreDistribution,
    ) -> "PlaceTail":
        """From the values of all places in all views together; raises ValueError without any."""
        pooled = [each[~each.isnan()].float().numpy() for each in evidence]
        if not sum(map(len, pooled)):
            raise ValueError("no held-out view sees any place of the object")
        logs = np.log(np.maximum(np.concatenate(pooled), _SMALLEST))
        knots = np.quantile(logs, 1.0 - _LEVELS) + 1e-9 * np.arange(_LEVELS.size)
        return cls(np.exp(knots), images)

    def surprise(self, values: Tensor) -> Tensor:
        """-log p of map values [...] at a place, float32; NaN where they are NaN.

        The tail is counted down to 1 in 10,000 and Pareto beyond. To it is added, for flashes, the
        share of good images that reach the value anywhere, times `_FLASH`: a value that many good
        images reach somewhere says at most -log(_FLASH), however rare it is at a single place.
        """
        known = np.maximum(values.float().nan_to_num(nan=0.0).numpy(), _SMALLEST)
        logs, knots = np.log(known), np.log(self.values)
        start = int(np.searchsorted(-_LEVELS, -_SLOPE_FROM))
        slope = np.log(_LEVELS[start] / _LEVELS[-1]) / max(knots[-1] - knots[start], 1e-3)
        place = np.interp(logs, knots, np.log(_LEVELS)) - np.maximum(logs - knots[-1], 0.0) * slope
        reached = np.maximum(self.images.tail_probability(known), _RAREST)
        both = np.logaddexp(place, np.log(_FLASH * reached))
        found = torch.from_numpy((-both).clip(min=0.0).astype(np.float32))
        return torch.where(values.isnan(), torch.nan, found)


def flash_limit(count: int, rate: float) -> float:
    """-log p that a place reaches by one image alone in at most this share of good objects.

    An image that `rate` / `count` of good ones reach says at most so much (`PlaceTail.surprise`).
    """
    return -math.log(_FLASH * rate / count)


def flash_probability(count: int, score: float) -> float:
    """The `rate` whose `flash_limit` is this score, at most 1."""
    return min(1.0, count * math.exp(-score) / _FLASH)


def repeats(
    rotations: Tensor,  # [k, 3, 3] world to camera
) -> Tensor:
    """How much images repeat each other, [k, k]: 1 from one direction, 0 from far apart.

    The angle is the smallest tried at which flashes of neighbouring images do not add up: groups of
    five neighbours (18 degrees) of a good glossy object were flagged in 19 % with 1 degree, 4 %
    with 5, none with 8.
    """
    return torch.exp(-0.5 * (view_angles(rotations, rotations, 0.0) / _ALIKE).square())


def agreement(
    surprise: Tensor,  # [k, N] -log p of each image at each place, NaN where not seen
    repeated: Tensor,  # [k, k] of `repeats`
) -> Tensor:
    """-log p that a place is as usual in all images that see it, [N]; NaN where none does.

    Fisher's combination: how unlikely the sum of so many standard exponentials is, so that a place
    that one image sees and one that all see are held against the same scale. Images from nearly
    one direction see the same flash; together they count as one (weights 1 / sum of `repeated`).
    """
    from scipy.special import gammaincc

    seen = ~surprise.isnan()
    crowd = (repeated.double() @ seen.double()).clamp_min(1.0)
    weight = torch.where(seen, 1.0 / crowd, 0.0)
    total = (weight * surprise.nan_to_num(nan=0.0)).sum(dim=0)
    count = weight.sum(dim=0).clamp_min(1.0)
    chance = gammaincc(count.numpy(), total.clamp(max=_LARGEST).numpy())
    return torch.where(seen.any(dim=0), -torch.from_numpy(chance).log(), torch.nan).float()


def coverage(
    evidence: Tensor,  # [k, N], NaN where not seen
    areas: Tensor,  # [N] of `surface_areas`
) -> float:
    """Share of the surface, by area, that at least one of the images sees, 0 to 1."""
    seen = (~evidence.isnan()).any(dim=0)
    return float(areas[seen].sum() / areas.sum().clamp_min(1e-30))


@dataclass(frozen=True)
class Place:
    """One connected region of flagged Gaussians; lengths in model units."""

    members: NDArray[np.int64]  # [m] of the N Gaussians
    peak: int  # the member that differs most
    position: Tensor  # [3] float64, mean of the members by how far they are above the limit
    extent: float  # diameter of the ball around `position` that holds all members


def merge_places(
    found: Tensor,  # [N] of `agreement`
    means: Tensor,  # [N, 3] of the Gaussians
    limit: float,  # from which on a place is flagged (>=)
    reach: float,  # flagged Gaussians that are nearer to each other belong together
) -> list[Place]:
    """The flagged places, neighbours merged (single linkage), the highest first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    flagged = torch.nonzero(found.nan_to_num(nan=-torch.inf) >= limit)[:, 0]
    if not len(flagged):
        return []
    points = means[flagged].double()
    pairs = cKDTree(points.numpy()).query_pairs(reach, output_type="ndarray")
    size = (len(flagged), len(flagged))
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=size)
    _, labels = connected_components(links, directed=False)
    places = []
    for label in range(labels.max() + 1):
        inside = torch.from_numpy(np.flatnonzero(labels == label))
        members = flagged[inside]
        weight = found[members].double() - limit + 1e-6  # of a place that just reaches it
        centre = (weight @ points[inside]) / weight.sum()
        extent = 2.0 * float((points[inside] - centre).norm(dim=1).max())
        places.append(Place(members.numpy(), int(members[weight.argmax()]), centre, extent))
    return sorted(places, key=lambda place: -float(found[place.peak]))
