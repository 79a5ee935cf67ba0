"""Learns the pose check of an object from train views that the model has not seen."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from scene import Camera

from .errors import rotation_error
from .hypotheses import Hypothesis, Matcher
from .multiscale import ExpectedResidual
from .pose_check import DOUBTFUL, PoseCheck, fit_pose_check
from .refine import estimate_pose
from .settings import PoseEstimate, PoseSettings

_RIGHT = math.radians(2.0)  # closer than that to the true rotation: a good pose
_WRONG = math.radians(6.0)  # farther: a bad one
_MISLEADING = math.radians(20.0)  # start of a try that is to fail


def calibrate_pose_check(
    model: ObjectRenderer,
    matcher: Matcher,
    cameras: Sequence[Camera],  # of the held-out views, with their true poses
    images: Sequence[Tensor],  # V of [3, H, W] in 0..1
    settings: PoseSettings | None = None,
    expected_residual: ExpectedResidual | None = None,
) -> tuple[PoseCheck | None, list[PoseEstimate]]:
    """Estimates every view as a query, and from starts at least 20 degrees off.

    These are the pose of another view, and the first hypothesis that is so far off: where the
    object is nearly symmetric, it shows how well a wrong pose can fit. Returns the
    check and the estimates of the views as queries. The check is None when no pose was found: none
    has the right rotation, nor does any rendering fit its view (an object that looks the same from
    all around is found at one of many rotations that fit).
    """
    settings = settings or PoseSettings()
    quick = settings if settings.method == "adam" else replace(settings, method="lm")
    good, bad, estimates = [], [], []
    for camera, image in zip(cameras, images, strict=True):
        hypotheses = matcher.coarse_poses(image, camera)
        found = estimate_pose(model, camera, image, hypotheses, settings, None, expected_residual)
        estimates.append(found)
        if rotation_error(found.world_to_camera, camera.world_to_camera) < _RIGHT:
            good.append(found.fit)
        for misled in (_misleading(cameras, camera), _mistaken(hypotheses, camera)):
            if misled is None:
                continue
            found = estimate_pose(model, camera, image, [misled], quick, None, expected_residual)
            if rotation_error(found.world_to_camera, camera.world_to_camera) > _WRONG:
                bad.append(found.fit)
    if not good:  # perhaps a body of revolution, which has no one right rotation
        good = [found.fit for found in estimates if DOUBTFUL.fits_in_colour(found.fit)]
    return fit_pose_check(good, bad), estimates


def _mistaken(hypotheses: Sequence[Hypothesis], camera: Camera) -> Hypothesis | None:
    """The first hypothesis that is too far off to lead to the right pose."""
    for hypothesis in hypotheses:
        if rotation_error(hypothesis.world_to_camera, camera.world_to_camera) > _MISLEADING:
            return hypothesis
    return None


def _misleading(cameras: Sequence[Camera], camera: Camera) -> Hypothesis | None:
    """The pose of the nearest other view that is too far off to lead to the right pose."""
    poses = torch.stack([other.world_to_camera for other in cameras])
    angles = rotation_error(poses, camera.world_to_camera.expand_as(poses))
    far = angles > _MISLEADING
    if not bool(far.any()):
        return None
    nearest = torch.where(far, angles, torch.full_like(angles, math.inf)).argmin()
    return Hypothesis(poses[nearest], 0.0)
