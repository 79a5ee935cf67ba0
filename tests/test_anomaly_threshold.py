"""The threshold for a stated false-alarm rate, and tail probabilities."""

import json

import numpy as np
import pytest
from scipy import stats

from anomaly import ScoreDistribution, fit_score_distribution


def held_out(count, seed=0, sigma=0.3):
    return np.exp(np.random.default_rng(seed).normal(0.0, sigma, count))


def test_order_statistic_by_hand():
    distribution = fit_score_distribution([5, 1, 2, 4, 3, 6, 7, 8, 9])  # n + 1 = 10
    threshold = distribution.threshold(0.2)
    assert threshold.promised
    assert threshold.value == 8  # one good score of nine lies above, a tenth is the tenth rank
    assert distribution.threshold(0.1).value == 9
    assert threshold.map_scale == 16
    assert "order statistic 8 of 9" in threshold.message


def test_scores_of_several_models_are_counted_but_promise_nothing():
    threshold = fit_score_distribution(held_out(210), models=5).threshold(0.01)
    assert threshold.value == sorted(held_out(210))[208]
    assert not threshold.promised
    assert threshold.message.startswith("About 1 % of good images are expected above it")
    assert "(of 5 models, none fitted to its views)" in threshold.message
    assert (
        ScoreDistribution.from_dict(
            fit_score_distribution(held_out(210), models=5).to_dict()
        ).models
        == 5
    )


def test_photographs_are_counted_beside_held_out_views():
    distribution = fit_score_distribution(held_out(20), held_out(10, seed=1))
    assert distribution.photographs == 10
    assert distribution.origin == "20 held-out views and 10 photographs of good parts"
    assert fit_score_distribution([], held_out(10)).origin == "10 photographs of good parts"
    assert ScoreDistribution.from_dict(distribution.to_dict()) == distribution


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_distribution_that_gives_no_finite_threshold_is_refused(value):
    stored = fit_score_distribution(held_out(30)).to_dict()
    with pytest.raises(ValueError, match="incomplete or damaged"):
        ScoreDistribution.from_dict(stored | {"scale": value})


def test_few_views_cannot_promise_and_say_so():
    threshold = fit_score_distribution(held_out(21)).threshold(0.01)
    assert not threshold.promised
    assert threshold.message.startswith("21 held-out views cannot promise 1 % false alarms")
    assert "4.5 %" in threshold.message


@pytest.mark.parametrize(("count", "rate"), [(21, 0.01), (60, 0.01), (200, 0.01), (21, 0.1)])
@pytest.mark.parametrize("family", ["lognormal", "gamma", "gumbel"])
def test_false_alarms_are_near_the_rate_aimed_at(count, rate, family):
    family = {
        "lognormal": stats.lognorm(0.5),
        "gamma": stats.gamma(4),
        "gumbel": stats.gumbel_r(5),
    }[family]
    rng = np.random.default_rng(1)
    drawn = [fit_score_distribution(family.rvs(count, random_state=rng)) for _ in range(150)]
    alarms = [family.sf(scores.threshold(rate).value) for scores in drawn]
    assert 0.3 * rate < np.mean(alarms) < 1.6 * rate


def test_thresholds_rise_as_the_rate_falls_and_scale_with_the_scores():
    scores = held_out(40, seed=4)
    distribution = fit_score_distribution(scores)
    values = [distribution.threshold(rate).value for rate in (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)]
    assert values == sorted(values)
    scaled = fit_score_distribution(1000 * scores).threshold(0.01).value
    assert scaled == pytest.approx(1000 * values[3], rel=1e-9)


def test_one_outlier_does_not_carry_the_threshold_away():
    scores = held_out(21, seed=2)
    spoilt = np.append(scores[1:], 5 * scores.max())
    assert (
        fit_score_distribution(spoilt).threshold(0.01).value
        < 8 * fit_score_distribution(scores).threshold(0.01).value
    )


def test_tail_probability_falls_and_matches_the_threshold():
    distribution = fit_score_distribution(held_out(50, seed=3))
    grid = np.linspace(0.0, 12.0, 400)
    probabilities = distribution.tail_probability(grid)
    assert (np.diff(probabilities) <= 1e-12).all()
    assert probabilities[0] == 1.0
    assert probabilities[-1] < 1e-3
    threshold = distribution.threshold(0.001)
    assert distribution.tail_probability(threshold.value) == pytest.approx(0.001, rel=1e-6)


def test_scores_survive_json():
    distribution = fit_score_distribution(held_out(30))
    assert (
        ScoreDistribution.from_dict(json.loads(json.dumps(distribution.to_dict()))) == distribution
    )
    with pytest.raises(ValueError, match="incomplete or damaged"):
        ScoreDistribution.from_dict({"scores": [1.0]})
    with pytest.raises(ValueError, match="incomplete or damaged"):
        ScoreDistribution.from_dict(distribution.to_dict() | {"scale": "wide"})


@pytest.mark.parametrize("score", [0.0, 2.5])
def test_scores_that_are_all_alike(score):
    distribution = fit_score_distribution([score] * 10)
    threshold = distribution.threshold(0.01)
    assert score <= threshold.value < score + 1e-3
    assert distribution.tail_probability(score + 1.0) < 0.01


@pytest.mark.parametrize("scores", [[1.0] * 4, [1.0] * 9 + [np.nan], [1.0] * 9 + [-1.0]])
def test_scores_that_cannot_be_used_are_refused(scores):
    with pytest.raises(ValueError, match=r"hold out at least 5|finite and not negative"):
        fit_score_distribution(scores)


def test_a_rate_outside_zero_to_one_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_score_distribution(held_out(10)).threshold(0.0)
