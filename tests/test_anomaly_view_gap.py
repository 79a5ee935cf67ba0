"""The growth of good scores with the angle to the nearest view."""

import math

import numpy as np
import pytest
import torch

from anomaly import GapLevel, ResidualMemory, fit_gap_level, level_out
from scene.se3 import twist_exp


def scores_at(gaps, growth, seed=0, spread=0.1):
    noise = np.random.default_rng(seed).normal(0.0, spread, len(gaps))
    return ((3.0 + growth * np.asarray(gaps)) * np.exp(noise)).tolist()


def test_the_line_is_found_and_queries_in_between_are_levelled():
    gaps = np.linspace(0.18, 0.26, 40).tolist()
    seen = scores_at([0.0] * 40, 15.0, seed=1)
    level, levelled = level_out(gaps, scores_at(gaps, 15.0, seed=2), seen)
    assert level.start == pytest.approx(3.0 / (3.0 + 15.0 * 0.22), abs=0.03)
    assert level(level.reference) == 1.0
    between = scores_at([0.1] * 40, 15.0, seed=3)
    moved = np.log(between) - math.log(level(0.1))
    assert moved.mean() == pytest.approx(np.log(levelled).mean(), abs=0.06)


def test_beyond_the_largest_gap_nothing_is_assumed():
    level = GapLevel(start=0.4, reference=0.2, largest=0.3)
    assert level(0.5) == level(0.3) == pytest.approx(1.3)
    assert level(math.inf) == level(0.3)
    assert GapLevel()(0.4) == GapLevel()(math.inf) == 1.0


def test_scores_that_fall_with_the_gap_are_left_alone():
    assert fit_gap_level([0.2, 0.3], [1.0, 1.1], [2.0, 2.1])(0.0) == 1.0


def test_a_model_that_learnt_its_views_by_heart_is_not_believed():
    assert fit_gap_level([0.2, 0.3], [100.0, 110.0], [0.2, 0.2])(0.0) == 0.1


def test_no_view_judges_itself():
    gaps, scores, seen = [0.2, 0.22, 0.24], [2.0, 3.0, 50.0], [1.0, 1.2]
    fitted, levelled = level_out(gaps, scores, seen)
    others = fit_gap_level(gaps[:2], scores[:2], seen)
    assert levelled[2] == pytest.approx(50.0 * others(fitted.reference) / others(gaps[2]))


@pytest.mark.parametrize("scores", [([], [], [1.0]), ([0.1], [1.0], []), ([0.1], [0.0], [1.0])])
def test_what_cannot_be_fitted_is_refused(scores):
    with pytest.raises(ValueError, match="the level at a gap needs"):
        fit_gap_level(*scores)


def memory_of(angles, elements=3):
    turns = torch.tensor([[0.0, a, 0.0, 0.0, 0.0, 0.0] for a in angles], dtype=torch.float64)
    views = [(torch.full((elements, 3), 0.1 * a), torch.ones(elements)) for a in angles]
    return ResidualMemory.build(twist_exp(turns)[:, :3, :3], views)


def test_the_gap_is_the_angle_to_the_nearest_view():
    memory = memory_of([0.0, 0.5])
    rotation = twist_exp(torch.tensor([0.0, 0.4, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))[:3, :3]
    assert memory.gap(rotation) == pytest.approx(0.1, abs=1e-6)
    assert memory.gap(rotation, exclude=1) == pytest.approx(0.4, abs=1e-6)


def test_joined_memories_are_as_one():
    joined = memory_of([0.0, 0.5]).joined(memory_of([1.0]))
    whole = memory_of([0.0, 0.5, 1.0])
    rotation = whole.rotations[2]
    assert torch.equal(joined.expect(rotation).mean, whole.expect(rotation).mean)
    assert joined.gap(rotation) < 1e-6
    with pytest.raises(ValueError, match="same elements"):
        joined.joined(memory_of([0.0], elements=4))
