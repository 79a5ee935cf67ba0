"""Queries made hard: the changes of the pose are what they say."""

import math

import pytest
import torch
from pose_scenes import lens, orbit, tiny_object

from benchmarks.pose_hard import CHANGES, variants
from pose_estimation import rotation_error
from pose_estimation.templates import object_extent

CENTRE = torch.tensor([0.1, 0.2, -0.1], dtype=torch.float64)


def where(pose: torch.Tensor) -> torch.Tensor:
    return pose[:3, :3] @ CENTRE + pose[:3, 3]


@pytest.mark.parametrize(
    ("kind", "factor"), [("as it is", 1), ("0.8 times as far", 0.8), ("1.25 times as far", 1.25)]
)
def test_distances_are_along_the_ray(kind, factor):
    camera = orbit(7)[3]
    pose = camera.world_to_camera
    changed = CHANGES[kind](pose, camera, CENTRE, torch.Generator().manual_seed(0))
    assert torch.allclose(where(changed), factor * where(pose))
    assert rotation_error(changed, pose) < 1e-6


def test_a_roll_turns_about_the_optical_axis():
    camera = orbit(7)[3]
    pose = camera.world_to_camera
    changed = CHANGES["rolled by any angle"](pose, camera, CENTRE, torch.Generator().manual_seed(1))
    assert torch.allclose(changed[2], pose[2])
    assert rotation_error(changed, pose) > 0.1


def test_cut_objects_lie_towards_the_border_or_the_corner():
    camera = orbit(7)[3]
    generator = torch.Generator().manual_seed(0)
    for kind, sides in (("cut off by one border", 1), ("cut off by a corner of the frame", 2)):
        x, y, z = where(CHANGES[kind](camera.world_to_camera, camera, CENTRE, generator)).tolist()
        u, v = camera.fx * x / z / (lens().width / 2), camera.fy * y / z / (lens().height / 2)
        assert sum(math.isclose(abs(share), 0.67, rel_tol=1e-6) for share in (u, v)) == sides


def test_the_pair_is_symmetric_under_half_a_turn():
    gaussians = tiny_object()
    pair = list(variants(gaussians).values())[2]
    centre = object_extent(gaussians)[0].to(gaussians.means)
    first, second = pair.means.split(len(gaussians))
    turned = (first - centre) * torch.tensor([-1.0, -1.0, 1.0]) + centre
    assert torch.allclose(turned, second, atol=1e-6)
    colour = list(variants(gaussians).values())[1].sh[:, 0]
    assert torch.allclose(colour[:, 0], colour[:, 1])
