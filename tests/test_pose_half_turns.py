"""A nearly symmetric object is found the right way round, from a hypothesis half a turn off."""

import math

import torch
from pose_scenes import WHITE, orbit, picture, tiny_object
from test_pose_refine import disturbed

from gaussian_renderer import ObjectRenderer
from pose_estimation import Hypothesis, PoseSettings, estimate_pose, rotation_error
from pose_estimation.half_turns import half_turns
from scene import Gaussians


def nearly_symmetric() -> Gaussians:
    """An object joined with its copy after half a turn, but for one paler end."""
    half = tiny_object()
    turn = half_turns(half)[2].float()
    other = half.map(torch.clone)
    other.means = half.means @ turn[:3, :3].T + turn[:3, 3]
    other.sh = half.sh.clone()
    other.sh[:12] *= 0.6
    both = half.named_tensors(), other.named_tensors()
    return Gaussians(**{name: torch.cat([each[name] for each in both]) for name in both[0]})


def test_half_turns_are_motions_that_undo_themselves():
    turns = half_turns(tiny_object())
    assert torch.allclose(turns @ turns, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    angles = [rotation_error(turn, torch.eye(4, dtype=torch.float64)) for turn in turns]
    assert all(math.isclose(float(angle), math.pi, rel_tol=1e-6) for angle in angles)


def test_hypotheses_half_a_turn_off_lead_to_the_right_pose():
    gaussians = nearly_symmetric()
    model, turn = ObjectRenderer(gaussians, WHITE), half_turns(gaussians)[2]
    for number, camera in enumerate(orbit(6)):
        true = camera.world_to_camera
        wrong = [Hypothesis(disturbed(true @ turn, 4, seed=number + k), 1.0) for k in (0, 10)]
        image = picture(gaussians, camera)
        found = estimate_pose(model, camera, image, wrong, PoseSettings(method="lm"))
        assert math.degrees(rotation_error(found.world_to_camera, true)) < 0.5
        single = estimate_pose(model, camera, image, wrong[:1], PoseSettings(method="lm"))
        assert math.degrees(rotation_error(single.world_to_camera, true)) > 90  # not searched
