"""Thresholds, tail probabilities, standardisation and the photometric fit."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from anomaly import calibrate, extend_beyond_silhouette, fit_photometry, fit_standardisation
from anomaly.calibration import Calibration
from anomaly.filters import gaussian_blur
from anomaly.standardise import HeldOut, Standardisation


def held_out(count, seed=0, sigma=0.3):
    return np.exp(np.random.default_rng(seed).normal(0.0, sigma, count))


def test_order_statistic_by_hand():
    calibration = calibrate([5, 1, 2, 4, 3, 6, 7, 8, 9])  # n + 1 = 10
    threshold = calibration.threshold(0.2)
    assert threshold.promised
    assert threshold.value == 8  # one good score of nine lies above, a tenth is the tenth rank
    assert calibration.threshold(0.1).value == 9
    assert threshold.map_scale == 16
    assert "order statistic 8 of 9" in threshold.words


def test_few_views_cannot_promise_and_say_so():
    threshold = calibrate(held_out(21)).threshold(0.01)
    assert not threshold.promised
    assert threshold.words.startswith("21 held-out views cannot promise 1 % false alarms")
    assert "4.5 %" in threshold.words


@pytest.mark.parametrize(("count", "rate"), [(21, 0.01), (60, 0.01), (200, 0.01), (21, 0.1)])
@pytest.mark.parametrize("family", ["lognormal", "gamma", "gumbel"])
def test_false_alarms_are_near_the_rate_aimed_at(count, rate, family):
    distribution = {
        "lognormal": stats.lognorm(0.5),
        "gamma": stats.gamma(4),
        "gumbel": stats.gumbel_r(5),
    }[family]
    rng = np.random.default_rng(1)
    alarms = [
        distribution.sf(calibrate(distribution.rvs(count, random_state=rng)).threshold(rate).value)
        for _ in range(150)
    ]
    assert 0.3 * rate < np.mean(alarms) < 1.6 * rate


def test_thresholds_rise_as_the_rate_falls_and_scale_with_the_scores():
    scores = held_out(40, seed=4)
    calibration = calibrate(scores)
    values = [calibration.threshold(rate).value for rate in (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)]
    assert values == sorted(values)
    scaled = calibrate(1000 * scores).threshold(0.01).value
    assert scaled == pytest.approx(1000 * values[3], rel=1e-9)


def test_one_outlier_does_not_carry_the_threshold_away():
    scores = held_out(21, seed=2)
    spoilt = np.append(scores[1:], 5 * scores.max())
    assert calibrate(spoilt).threshold(0.01).value < 8 * calibrate(scores).threshold(0.01).value


def test_tail_probability_falls_and_matches_the_threshold():
    calibration = calibrate(held_out(50, seed=3))
    grid = np.linspace(0.0, 12.0, 400)
    probabilities = calibration.tail_probability(grid)
    assert (np.diff(probabilities) <= 1e-12).all()
    assert probabilities[0] == 1.0
    assert probabilities[-1] < 1e-3
    threshold = calibration.threshold(0.001)
    assert calibration.tail_probability(threshold.value) == pytest.approx(0.001, rel=1e-6)


def test_calibration_survives_json():
    calibration = calibrate(held_out(30))
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    with pytest.raises(ValueError, match="calibrate again"):
        Calibration.from_dict({"scores": [1.0]})
    with pytest.raises(ValueError, match="calibrate again"):
        Calibration.from_dict(calibration.to_dict() | {"scale": "wide"})


@pytest.mark.parametrize("score", [0.0, 2.5])
def test_scores_that_are_all_alike(score):
    calibration = calibrate([score] * 10)
    threshold = calibration.threshold(0.01)
    assert score <= threshold.value < score + 1e-3
    assert calibration.tail_probability(score + 1.0) < 0.01


@pytest.mark.parametrize("scores", [[1.0] * 4, [1.0] * 9 + [np.nan], [1.0] * 9 + [-1.0]])
def test_scores_that_cannot_be_used_are_refused(scores):
    with pytest.raises(ValueError, match=r"hold out at least 5|finite and not negative"):
        calibrate(scores)


def test_a_rate_outside_zero_to_one_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate(held_out(10)).threshold(0.0)


def glossy_views(count=8, size=48, informative=True):
    """Good views whose residual is proportional to a known expectation plus spread."""
    generator = torch.Generator().manual_seed(0)
    expected = 0.01 + 0.05 * (torch.rand(size, size, generator=generator) > 0.8)
    spread = 0.1 * (torch.rand(size, size, generator=generator) > 0.9)
    views = []
    for _ in range(count):
        noise = torch.randn(size, size, generator=generator).abs()
        unit = expected + spread if informative else torch.full_like(expected, 0.05)
        views.append(HeldOut((unit * noise).square(), expected, spread, expected > 0))
    return views


def test_standardisation_uses_the_spread_where_it_tells_something():
    good = fit_standardisation(glossy_views())
    assert good.spread_weight >= 0.5
    assert good.floor < 0.03
    blind = fit_standardisation(glossy_views(informative=False))
    assert blind.spread_weight == 0.0
    assert blind.floor > good.floor


def test_standardised_residual_by_hand():
    unit = Standardisation(spread_weight=2.0, floor=0.5)
    result = unit(torch.tensor([4.0]), torch.tensor([0.5]), torch.tensor([0.25]))
    assert result.item() == pytest.approx(2.0 / 1.5)


def test_the_fit_does_not_depend_on_the_unit_of_residuals():
    scaled = [
        HeldOut(v.residual * 1e4, v.expected * 100, v.spread * 100, v.region)
        for v in glossy_views()
    ]
    one, other = fit_standardisation(glossy_views()), fit_standardisation(scaled)
    assert other.spread_weight == one.spread_weight
    assert other.floor == pytest.approx(100 * one.floor, rel=1e-5)


def test_edges_do_not_glow_outside_the_silhouette():
    alpha = torch.zeros(60, 60)
    alpha[20:40, 20:40] = 1.0
    rendered = 0.1 * alpha  # the same expectation everywhere on the object
    extended = extend_beyond_silhouette(torch.stack([rendered, 2 * rendered]), alpha, 2.0)
    assert torch.allclose(extended[0], torch.full((60, 60), 0.1), atol=1e-5)
    assert torch.allclose(extended[1], 2 * extended[0], atol=1e-5)
    rim = alpha.clone()
    rim[21:39, 21:39] = 0.0  # an innocent residual at the rim leaks outside when blurred
    residual = gaussian_blur((0.3 * rim).square(), 2.0)
    unit = Standardisation(0.0, 0.001)
    plain = unit(residual, 0.3 * rim, rim)
    better = unit(residual, extend_beyond_silhouette(0.3 * rim, alpha, 2.0), rim)
    outside = alpha == 0
    assert plain[outside].max() > 10 * better[outside].max()
    empty = torch.zeros(8, 8)
    assert extend_beyond_silhouette(empty, empty, 2.0) is empty


def test_noise_in_the_background_raises_the_floor():
    quiet = glossy_views()
    noisy = []
    for view in quiet:
        region = torch.zeros_like(view.region)
        region[:24] = True
        noise = 0.08 * torch.rand(48, 48, generator=torch.Generator().manual_seed(1))
        expected = torch.where(region, view.expected, torch.tensor(0.0))
        spread = torch.where(region, view.spread, torch.tensor(0.0))
        residual = torch.where(region, view.residual, noise.square())
        noisy.append(HeldOut(residual, expected, spread, region))
    assert fit_standardisation(noisy).floor > 2 * fit_standardisation(quiet).floor


def test_standardisation_without_views_is_refused():
    with pytest.raises(ValueError, match="held-out views"):
        fit_standardisation([])


def plate(seed=0):
    """A smooth colourful object [3, 80, 80] and where it is."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.15 + 0.5 * torch.rand(1, 3, 8, 8, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (80, 80), mode="bilinear")[0]
    noise = 0.004 * torch.randn(image.shape, generator=generator)
    foreground = torch.zeros(80, 80, dtype=torch.bool)
    foreground[10:70, 10:70] = True
    return image, image + noise, foreground


@pytest.mark.parametrize("model", ["gain", "affine"])
@pytest.mark.parametrize("defect", [None, 0.0, 1.0])
def test_light_is_fitted_and_a_fifth_of_defect_does_not_drag_it(model, defect):
    rendering, query, foreground = plate()
    query = (query * 0.85 + 0.03).clamp(0, 1)
    if defect is not None:
        query[:, 10:22, 10:70] = 0.95 * defect  # a fifth of the object, black or nearly white
    photometry = fit_photometry(query, rendering, foreground, model)
    assert photometry.significant
    assert torch.allclose(photometry.matrix, 0.85 * torch.eye(3), atol=0.02)
    assert torch.allclose(photometry.offset, torch.full((3,), 0.03), atol=0.01)
    residual = (photometry(rendering[None])[0] - query)[:, 30:70, 10:70]
    assert residual.abs().median() < 0.004


def test_colour_crosstalk_needs_the_affine_model():
    rendering, query, foreground = plate()
    matrix = torch.tensor([[0.8, 0.1, 0.0], [0.05, 0.9, 0.0], [0.0, 0.1, 0.7]])
    query = torch.einsum("ij,jhw->ihw", matrix, query)
    photometry = fit_photometry(query, rendering, foreground, "affine")
    assert torch.allclose(photometry.matrix, matrix, atol=0.02)


def test_no_change_of_light_is_left_alone():
    rendering, query, foreground = plate()
    query[:, 10:22, 10:70] = 0.0
    photometry = fit_photometry(query, rendering, foreground)
    assert not photometry.significant
    assert photometry(rendering) is rendering
    nothing = fit_photometry(query, rendering, torch.zeros_like(foreground))
    assert not nothing.significant
