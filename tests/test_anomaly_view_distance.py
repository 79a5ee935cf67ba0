"""The growth of good scores with the angle to the nearest view."""

import math

import numpy as np
import pytest
import torch
from pose_scenes import tiny_model
from query_scenes import normal_model_of_the_object

from anomaly import NormalModelScorer, ResidualMemory
from anomaly.view_distance import ViewDistanceScale, fit_view_distance_scale, rescale_scores
from pose_estimation.viewpoints import fibonacci_sphere, look_at
from scene.se3 import twist_exp


def scores_at(distances, growth, seed=0, spread=0.1):
    noise = np.random.default_rng(seed).normal(0.0, spread, len(distances))
    return ((3.0 + growth * np.asarray(distances)) * np.exp(noise)).tolist()


def test_the_line_is_found_and_queries_in_between_are_levelled():
    distances = np.linspace(0.18, 0.26, 40).tolist()
    seen = scores_at([0.0] * 40, 15.0, seed=1)
    level, levelled = rescale_scores(distances, scores_at(distances, 15.0, seed=2), seen)
    assert level.start == pytest.approx(3.0 / (3.0 + 15.0 * 0.22), abs=0.03)
    assert level(level.reference) == 1.0
    between = scores_at([0.1] * 40, 15.0, seed=3)
    moved = np.log(between) - math.log(level(0.1))
    assert moved.mean() == pytest.approx(np.log(levelled).mean(), abs=0.06)


def test_beyond_the_largest_distance_nothing_is_assumed():
    level = ViewDistanceScale(start=0.4, reference=0.2, largest=0.3)
    assert level(0.5) == level(0.3) == pytest.approx(1.3)
    assert level(math.inf) == level(0.3)
    assert ViewDistanceScale()(0.4) == ViewDistanceScale()(math.inf) == 1.0


def test_scores_that_fall_with_the_distance_are_left_alone():
    assert fit_view_distance_scale([0.2, 0.3], [1.0, 1.1], [2.0, 2.1])(0.0) == 1.0


def test_a_model_that_learnt_its_views_by_heart_is_not_believed():
    assert fit_view_distance_scale([0.2, 0.3], [100.0, 110.0], [0.2, 0.2])(0.0) == 0.1


def test_no_view_judges_itself():
    distances, scores, seen = [0.2, 0.22, 0.24], [2.0, 3.0, 50.0], [1.0, 1.2]
    fitted, levelled = rescale_scores(distances, scores, seen)
    others = fit_view_distance_scale(distances[:2], scores[:2], seen)
    assert levelled[2] == pytest.approx(50.0 * others(fitted.reference) / others(distances[2]))


@pytest.mark.parametrize("scores", [([], [], [1.0]), ([0.1], [1.0], []), ([0.1], [0.0], [1.0])])
def test_what_cannot_be_fitted_is_refused(scores):
    with pytest.raises(ValueError, match="the scale with the distance needs"):
        fit_view_distance_scale(*scores)


def memory_of(angles, elements=3):
    turns = torch.tensor([[0.0, a, 0.0, 0.0, 0.0, 0.0] for a in angles], dtype=torch.float64)
    views = [(torch.full((elements, 3), 0.1 * a), torch.ones(elements)) for a in angles]
    return ResidualMemory.build(twist_exp(turns)[:, :3, :3], views)


def test_the_distance_is_the_angle_to_the_nearest_view():
    memory = memory_of([0.0, 0.5])
    rotation = twist_exp(torch.tensor([0.0, 0.4, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))[:3, :3]
    assert memory.distance(rotation) == pytest.approx(0.1, abs=1e-6)
    assert memory.distance(rotation, exclude=1) == pytest.approx(0.4, abs=1e-6)


def test_joined_memories_are_as_one():
    joined = memory_of([0.0, 0.5]).joined(memory_of([1.0]))
    whole = memory_of([0.0, 0.5, 1.0])
    rotation = whole.rotations[2]
    assert torch.equal(joined.expect(rotation).mean, whole.expect(rotation).mean)
    assert joined.distance(rotation) < 1e-6
    with pytest.raises(ValueError, match="same elements"):
        joined.joined(memory_of([0.0], elements=4))


def test_a_direction_far_from_every_view_is_told() -> None:
    """Held-out views lie up to 0.5 rad from the others, so 30 degrees are usual."""
    known = normal_model_of_the_object()
    scorer = NormalModelScorer(tiny_model(), known)
    origin = torch.zeros(3, dtype=torch.float64)
    rotations = [look_at(4.0 * direction, origin)[:3, :3] for direction in fibonacci_sphere(200)]
    told = {rotation: scorer.beyond_views(rotation) for rotation in rotations}
    assert {angle is None for angle in told.values()} == {True, False}
    for rotation, angle in told.items():
        distance = known.memory.distance(rotation)
        assert angle == (distance if distance > math.radians(30) else None)
