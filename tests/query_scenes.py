"""Queries of the tiny object, and what is normal of it, for tests of whole batches."""

import torch
from pose_scenes import WHITE, lens, orbit, picture, tiny_object, visible
from torch import Tensor

from anomaly import build_memory
from anomaly.fit_normal_model import fit_place_moments
from anomaly.mahalanobis import Mahalanobis
from anomaly.normal_model import NormalModel
from anomaly.view_distance import ViewDistanceScale
from gaussian_renderer import ObjectRenderer

SMALL = 32  # pixels a side of the pictures that are compared
VIEWS = orbit(12)


def normal_model_of_the_object() -> NormalModel:
    """What is normal of the tiny object, learnt from views of which every other one is darker."""
    model = ObjectRenderer(tiny_object(), WHITE)
    cameras = [lens(view.world_to_camera, SMALL) for view in VIEWS]
    images = [(1 - 0.1 * (n % 2)) * model(camera).image for n, camera in enumerate(cameras)]
    residuals = [image - model(camera).image for image, camera in zip(images, cameras, strict=True)]
    memory = build_memory(model, cameras, images)
    moments = fit_place_moments(model, cameras, residuals)
    unit = Mahalanobis(gloss="camera", floor=0.01)
    return NormalModel(memory, moments, unit, ViewDistanceScale(0.5, 0.3, 0.5))


def queries_to_compare() -> tuple[Tensor, Tensor]:
    """Five queries and their poses: two good ones, a defect, another lamp, nothing at all."""
    poses = torch.stack([VIEWS[number].world_to_camera for number in (1, 4, 6, 8, 10)])
    images = torch.stack([picture(tiny_object(), lens(pose, SMALL)) for pose in poses])
    images[2, :, 16:21, 16:21] = 0.0
    images[3] = torch.where(visible(images[3]), 0.6 * images[3], images[3])
    images[4] = 1.0
    return images, poses
