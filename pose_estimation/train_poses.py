"""Poses of the train views, corrected where the given ones are off.

A model that is trained with wrong poses is blurred, but it stands where the poses put it on
average; so each image's pose can be found again in it. A few short trainings and corrections in
turn bring poses that are off by ten pixels to less than one (docs/robustness.md). A view at quite
another pose is searched for as a query is.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer import ObjectRenderer
from scene import View

from .errors import align_poses, reprojection_shift
from .hypotheses import Hypothesis
from .refine import estimate_pose
from .settings import PoseSettings
from .wrong_views import WrongView, far_above_the_rest, view_residuals, wrong_views

_ROUNDS = 3  # at most
_SETTLED = 0.3  # pixels; when the median view moves less, the poses are good
_POINTS = 1000  # of the object, to measure that with


def refine_train_poses(
    views: tuple[View, ...],
    images: Sequence[Tensor],  # uint8 [3, H, W] each, of the views
    silhouettes: Sequence[Tensor] | None,  # bool [H, W] each; None without a plain background
    train_briefly: Callable[[tuple[View, ...]], ObjectRenderer],  # at the poses of these views
) -> tuple[View, ...]:
    """The views at corrected poses, in the frame of the given ones."""
    given = torch.stack([view.camera.world_to_camera for view in views])
    trusted = torch.ones(len(views), dtype=torch.bool)  # those that were not far off
    for round_ in range(_ROUNDS):
        model = train_briefly(views)
        found = _found(views, images, model)
        wrong = _search(_at(views, found), images, silhouettes, model)
        for each in wrong:
            found[each.number], trusted[each.number] = each.world_to_camera, False
            print(f"put right: {views[each.number].name}: its pose was {each.shift:.0f} pixels off")
        moved = _at(views, align_poses(found, given, trusted))
        points = model.gaussians.means[:: max(1, len(model.gaussians) // _POINTS)].cpu()
        shifts = [
            reprojection_shift(points, old.camera, new.camera)
            for old, new in zip(views, moved, strict=True)
        ]
        median = float(torch.tensor(shifts).median())
        print(f"train poses, round {round_ + 1}: moved by {median:.2f} pixels in the median")
        views = moved
        if median < _SETTLED and not wrong:
            break
    return views


def _search(
    views: tuple[View, ...],
    images: Sequence[Tensor],
    silhouettes: Sequence[Tensor] | None,
    model: ObjectRenderer,
) -> list[WrongView]:
    """Views that the model shows quite elsewhere; none where these are many."""
    cameras = [view.camera for view in views]
    floats = [image.to(model.gaussians.means).div(255) for image in images]
    suspicious = far_above_the_rest(view_residuals(model, cameras, floats))
    return wrong_views(model, cameras, floats, silhouettes, suspicious)


def _found(views: tuple[View, ...], images: Sequence[Tensor], model: ObjectRenderer) -> Tensor:
    """Pose of every view in the model, from where it is now, [V, 4, 4]."""
    settings = PoseSettings(method="lm")
    poses = []
    for view, image in tqdm(
        zip(views, images, strict=True), total=len(views), desc="train poses", unit="view",
        file=sys.stderr,
    ):  # fmt: skip
        start = Hypothesis(view.camera.world_to_camera, 1.0)
        target = image.to(model.gaussians.means).div(255)
        poses.append(estimate_pose(model, view.camera, target, [start], settings).world_to_camera)
    return torch.stack(poses)


def _at(views: tuple[View, ...], poses: Tensor) -> tuple[View, ...]:
    return tuple(
        replace(view, camera=view.camera.at(pose)) for view, pose in zip(views, poses, strict=True)
    )
