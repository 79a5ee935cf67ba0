"""Learns the normal model after training, from train views and from views that were held out."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer import ObjectRenderer
from scene import Camera

from .mahalanobis import DIAGONAL, HeldOutMaps, fit_mahalanobis, outer
from .normal_model import (
    NormalModel,
    PlaceMoments,
    reflected_directions,
    render_corrected,
)
from .normals import gaussian_normals
from .residual_memory import ResidualMemory
from .scoring import NormalModelScorer, compare
from .specular import FRAMES, Frame, SpecularStatistics
from .view_distance import rescale_scores

_VIEWS_FOR_MOMENTS = 64  # train views whose corrected residual is averaged on the Gaussians
_VIEWS_FOR_SCALE = 24  # train views that show how low scores are where the memory knows the view
_PRIOR_PIXELS = 4.0  # evidence with which a Gaussian's moments are drawn to the object's
_HALF_WEIGHT = 0.5  # pixels at which a view counts as having half seen a Gaussian
_RIM_ALPHA = 0.05  # where the object covers at least so much of a pixel, a defect could lie
_SMALLEST = 1e-12  # score of a map of zeros, so that it has a logarithm


class PosedImages(NamedTuple):
    """Images of the good object with the cameras that took them."""

    cameras: list[Camera]
    images: list[Tensor]  # [3, H, W] each


def fit_normal_model(
    model: ObjectRenderer,
    memory: ResidualMemory,  # of `train`
    train: PosedImages,
    held_out: PosedImages,  # at poses that were found as a query's
    remembered: PosedImages,  # the same and more, at their input poses: they join the memory
) -> tuple[NormalModel, list[float]]:
    """The normal model, and the scores of the held-out views, none of which had a say in its own.

    Raises ValueError without held-out views.
    """
    moments = _train_moments(model, memory, train)
    usual = float(moments.common[:, DIAGONAL].mean(dim=1).sqrt().median())
    views = (
        _held_out_maps(model, memory, moments, camera, image)
        for camera, image in zip(*held_out, strict=True)
    )
    mahalanobis, scores = fit_mahalanobis(views, usual)
    known = NormalModel(memory, moments, mahalanobis)
    distances = [memory.distance(camera.world_to_camera[:3, :3]) for camera in held_out.cameras]
    scale, scores = rescale_scores(distances, scores, _train_scores(model, known, train))
    joined = memory.joined(build_memory(model, *remembered))
    return replace(known, distance_scale=scale, memory=joined), scores


@torch.no_grad()
def build_memory(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],  # [3, H, W] each
) -> ResidualMemory:
    """The residuals of views at their known poses."""

    def residuals() -> Iterator[tuple[Tensor, Tensor]]:
        for camera, image in zip(cameras, images, strict=True):
            yield model.splat(camera, image - model(camera).image.clamp(0.0, 1.0))

    rotations = torch.stack([camera.world_to_camera[:3, :3] for camera in cameras])
    return ResidualMemory.build(rotations, residuals(), half_weight=_HALF_WEIGHT)


def _train_moments(
    model: ObjectRenderer, memory: ResidualMemory, train: PosedImages
) -> PlaceMoments:
    """What the residuals of train views are like at each Gaussian, other views correcting."""
    chosen = _spread(len(train.cameras), _VIEWS_FOR_MOMENTS)
    nothing = model.gaussians.means.new_zeros(len(model.gaussians), 0)
    residuals = []
    for number in tqdm(chosen, desc="normal residuals", unit="view", file=sys.stderr):
        camera = train.cameras[number]
        expectation = memory.expect(camera.world_to_camera[:3, :3], exclude=number)
        shown = render_corrected(model, camera, expectation, nothing)
        residuals.append(compare(train.images[number], shown)[1])
    return fit_place_moments(model, [train.cameras[number] for number in chosen], residuals)


@torch.no_grad()
def fit_place_moments(
    model: ObjectRenderer,
    cameras: Sequence[Camera],
    residuals: Sequence[Tensor],  # [3, H, W] each: signed residual of a good view
) -> PlaceMoments:
    """Mean second moments of each Gaussian over the views, and how they vary with reflections.

    Moments are drawn to those of the whole object where little was seen.
    """
    splats = [model.splat(c, outer(r)) for c, r in zip(cameras, residuals, strict=True)]
    total = model.gaussians.means.new_zeros(len(model.gaussians), 6)
    weights = torch.zeros_like(total[:, 0])
    for mean, weight in splats:
        total += mean * weight[:, None]
        weights += weight
    overall = total.sum(dim=0) / weights.sum().clamp_min(1e-12)
    common = (total + _PRIOR_PIXELS * overall) / (weights + _PRIOR_PIXELS)[:, None]
    normals = gaussian_normals(model, cameras)
    known = normals.abs().amax(dim=1) > 0
    usual = common[:, DIAGONAL].sum(dim=1).clamp_min(1e-12)
    tables: dict[Frame, Tensor] = {}
    for frame in ("object", "camera"):
        statistics = SpecularStatistics()
        for camera, (mean, weight) in zip(cameras, splats, strict=True):
            directions = reflected_directions(model, normals, camera, frame)
            ratios = mean[:, DIAGONAL].sum(dim=1) / usual
            statistics.add(directions[known], ratios[known], weight[known])
        tables[frame] = statistics.table().to(common)
    return PlaceMoments(common, normals, tables)


def _held_out_maps(
    model: ObjectRenderer,
    memory: ResidualMemory,
    moments: PlaceMoments,
    camera: Camera,
    image: Tensor,
) -> HeldOutMaps:
    """Residual of a good view, and the parts of its covariance."""
    expectation = memory.expect(camera.world_to_camera[:3, :3])
    commons = [moments.at(model, camera, frame) for frame in FRAMES]
    parts = (*commons, expectation.covariance, outer(expectation.mean, dim=-1))
    shown = render_corrected(model, camera, expectation, torch.cat(parts, dim=1))
    residual = compare(image, shown)[1]
    *common_maps, near, correction = shown.maps.split(6)
    region = shown.alpha > _RIM_ALPHA
    return HeldOutMaps(residual, torch.stack(common_maps), near, correction, region)


def _train_scores(model: ObjectRenderer, known: NormalModel, train: PosedImages) -> list[float]:
    """Scores of train views where the memory knows the very view: as low as scores get."""
    scorer = NormalModelScorer(model, known)
    return [
        max(float(scorer(train.images[number], train.cameras[number]).score), _SMALLEST)
        for number in _spread(len(train.cameras), _VIEWS_FOR_SCALE)
    ]


def _spread(count: int, about: int) -> range:
    """At least `about` of `count` numbers at equal distances, or all of fewer."""
    return range(0, count, max(1, count // about))
