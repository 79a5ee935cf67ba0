"""Several problems in lock step against each of them alone."""

import math
from collections.abc import Sequence

import pytest
import torch
from pose_scenes import orbit
from test_pose_refine import ORIGIN, PointEquations, disturbed, point_equations
from torch import Tensor

from pose_estimation.levenberg_marquardt import levenberg_marquardt, levenberg_marquardt_together


def test_lock_step_takes_the_steps_of_each_run_alone() -> None:
    """Easy and hard starts, one without a sensible step, one that nothing helps."""
    points = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double()
    truths = [camera.world_to_camera for camera in orbit(5)]
    problems = [point_equations(points, true) for true in truths]
    broken = PointEquations(torch.full((6, 6), math.nan).double(), torch.zeros(6).double(), 1.0)
    empty = PointEquations(torch.zeros(6, 6).double(), torch.zeros(6).double(), 1.0)
    uphill = PointEquations(torch.eye(6).double(), torch.ones(6).double(), 1.0)
    problems += [lambda pose: broken, lambda pose: empty, lambda pose: uphill]
    truths += truths[:3]
    starts = [disturbed(true, 5 + 12 * n, seed=n) for n, true in enumerate(truths)]
    asked: list[list[int]] = []

    def equations(numbers: list[int], poses: Tensor) -> Sequence[PointEquations]:
        asked.append(numbers)
        return [problems[n](pose) for n, pose in zip(numbers, poses, strict=True)]

    together = levenberg_marquardt_together(
        equations, torch.stack(starts), ORIGIN, 1.0, evaluations=14
    )
    for problem, start, found in zip(problems, starts, together, strict=True):
        alone = levenberg_marquardt(problem, start, ORIGIN, 1.0, evaluations=14)
        assert found.evaluations == alone.evaluations
        assert found.converged == alone.converged
        assert found.history == pytest.approx(alone.history, rel=1e-9, abs=1e-20)
        torch.testing.assert_close(found.world_to_camera, alone.world_to_camera, rtol=0, atol=1e-9)
    assert asked[0] == list(range(8))
    assert 5 not in asked[1]  # what has ended drops out of the batch
    assert len(asked[-1]) < len(asked[1])
    assert len({found.evaluations for found in together}) > 2
