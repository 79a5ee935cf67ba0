"""Poses of the train views, corrected where the given ones are off.

A model that is trained with wrong poses is blurred, but it stands where the poses put it on
average; so each picture's pose can be found again in it. A few short trainings and corrections in
turn bring poses that are off by ten pixels to less than one (docs/robustness.md).
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer.object_renderer import ObjectRenderer
from pose_estimation import (
    Hypothesis,
    PoseSettings,
    align_poses,
    estimate_pose,
    reprojection_shift,
)
from scene import View, read_json, write_json

from .model_folder import ModelFolder
from .optimise import Optimisation, optimise, read_views

_ROUNDS = 3  # at most
_ITERATIONS = 500  # of the training in each round
_SETTLED = 0.3  # pixels; when the median view moves less, the poses are good
_POINTS = 1000  # of the object, to measure that with


def corrected_views(run: Optimisation, path: Path) -> tuple[View, ...]:
    """All views of `run` at corrected poses, in the frame of the given ones.

    What was found is kept in `path` (JSON, name to matrix), so that a resumed run has the same.
    """
    if path.is_file():
        stored = read_json(path)
    else:
        stored = {view.name: view.camera.world_to_camera.tolist() for view in _corrected(run)}
        write_json(path, stored)
    return _at(run.views, torch.tensor([stored[view.name] for view in run.views]).double())


def _corrected(run: Optimisation) -> tuple[View, ...]:
    given = torch.stack([view.camera.world_to_camera for view in run.views])
    preset = replace(run.preset, iterations=min(_ITERATIONS, run.preset.iterations))
    for round_ in range(_ROUNDS):
        with tempfile.TemporaryDirectory() as scratch:
            trial = replace(run, preset=preset, checkpoint_every=sys.maxsize)
            gaussians, _ = optimise(trial, ModelFolder(Path(scratch)))
        model = ObjectRenderer(gaussians, run.background, run.backend, run.threads)
        found = align_poses(_found(run, model), given)
        moved = _at(run.views, found)
        points = gaussians.means[:: max(1, len(gaussians) // _POINTS)].cpu()
        shifts = [
            reprojection_shift(points, old.camera, new.camera)
            for old, new in zip(run.views, moved, strict=True)
        ]
        median = float(torch.tensor(shifts).median())
        print(f"train poses, round {round_ + 1}: moved by {median:.2f} pixels in the median")
        run = replace(run, views=moved)
        if median < _SETTLED:
            break
    return run.views


def _found(run: Optimisation, model: ObjectRenderer) -> Tensor:
    """Pose of every view in the model, from where it is now, [V, 4, 4]."""
    settings = PoseSettings(method="lm", backend=run.backend, threads=run.threads)
    poses = []
    images = zip(run.views, read_views(run.capture, run.views), strict=True)
    for view, image in tqdm(
        images, total=len(run.views), desc="train poses", unit="view", file=sys.stderr
    ):
        start = Hypothesis(view.camera.world_to_camera, 1.0)
        target = image.to(model.gaussians.means).div(255)
        found = estimate_pose(
            model.gaussians, view.camera, target, [start], model.background, settings
        )
        poses.append(found.world_to_camera)
    return torch.stack(poses)


def _at(views: tuple[View, ...], poses: Tensor) -> tuple[View, ...]:
    return tuple(
        replace(view, camera=view.camera.at(pose)) for view, pose in zip(views, poses, strict=True)
    )
