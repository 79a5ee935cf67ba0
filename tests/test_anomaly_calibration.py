"""Thresholds, tail probabilities, standardisation and the photometric fit."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from anomaly import (
    background_gains,
    calibrate,
    extend_beyond_silhouette,
    fit_photometry,
    fit_standardisation,
    outer,
)
from anomaly.mahalanobis import HeldOut, Standardisation
from anomaly.specular import FRAMES
from anomaly.threshold import Calibration


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


def test_scores_of_several_models_are_counted_but_promise_nothing():
    threshold = calibrate(held_out(210), models=5).threshold(0.01)
    assert threshold.value == sorted(held_out(210))[208]
    assert not threshold.promised
    assert threshold.words.startswith("About 1 % of good images are expected above it")
    assert "of 5 models, none fitted to its views" in threshold.words
    assert Calibration.from_dict(calibrate(held_out(210), models=5).to_dict()).models == 5


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


def draws(covariance, count, size, generator):
    """Normal residuals [count, 3, size, size] with a covariance [3, 3]."""
    root = torch.linalg.cholesky(covariance)
    noise = torch.randn(count, 3, size * size, generator=generator)
    return (root @ noise).reshape(count, 3, size, size)


def six(matrix, size=32):
    """The upper entries of a matrix [3, 3] as maps [6, size, size]."""
    return matrix[tuple(torch.triu_indices(3, 3))][:, None, None].expand(6, size, size).clone()


def glossy_views(count=8, size=32, near=1.0, unit=1.0):
    """Good views: white gloss on a part of the object that only the near views know of."""
    generator = torch.Generator().manual_seed(0)
    base = 1e-4 * torch.eye(3)
    white = 4e-3 * torch.ones(3, 3)
    shiny = torch.zeros(size, size)
    shiny[:, : size // 4] = 1.0
    views = []
    quiet = draws(base, count, size, generator)
    gloss = draws(base + white, count, size, generator)
    for view in range(count):
        residual = gloss[view] * shiny + quiet[view] * (1 - shiny)
        maps = (six(base, size), near * six(white, size) * shiny, torch.zeros(6, size, size))
        maps = [unit**2 * each for each in maps]
        maps[0] = maps[0].expand(len(FRAMES), -1, -1, -1)
        views.append(HeldOut(unit * residual, *maps, torch.ones(size, size, dtype=torch.bool)))
    return views


def test_near_views_count_where_they_tell_something():
    assert fit_standardisation(glossy_views(), 0.01).standardisation.near_weight == 1.0
    blind = fit_standardisation(glossy_views(near=0.0), 0.01).standardisation
    assert blind.near_weight == 0.0  # equal candidates: the simplest
    assert blind.floor > 0


def test_standardised_residual_is_the_mahalanobis_distance():
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(3, 3, generator=generator)
    covariance = factor @ factor.T
    residual = torch.randn(3, 5, 4, generator=generator)
    unit = Standardisation(near_weight=2.0, correction_weight=0.5, floor=0.3)
    found = unit(residual, six(covariance)[:, :5, :4])
    inverse = torch.linalg.inv(covariance + 0.09 * torch.eye(3))
    expected = torch.einsum("chw,cd,dhw->hw", residual, inverse, residual).sqrt()
    assert torch.allclose(found, expected, rtol=1e-3)
    parts = torch.rand(3, 6, generator=generator)
    summed = parts[0] + 4.0 * parts[1] + 0.25 * parts[2]
    assert torch.allclose(unit.covariance(*parts), summed)
    assert torch.equal(outer(residual)[1], residual[0] * residual[1])


def test_channels_that_vary_as_one_do_not_break_the_distance():
    direction = torch.tensor([0.31, 0.29, 0.33])
    covariance = six(torch.outer(direction, direction))
    unit = Standardisation(floor=1e-4)
    along = direction[:, None, None].expand(3, 32, 32)
    assert torch.allclose(unit(along, covariance), torch.ones(32, 32), atol=1e-2)
    assert unit(0.01 * along + 1e-4, covariance).max() < 3.0


def test_a_colour_that_nothing_innocent_has_counts_more_than_gloss():
    covariance = six(1e-4 * torch.eye(3) + 4e-3 * torch.ones(3, 3))
    unit = Standardisation(floor=1e-3)
    white = torch.full((3, 32, 32), 0.05)
    tint = torch.tensor([0.05, -0.05, 0.05])[:, None, None].expand(3, 32, 32)
    assert unit(tint, covariance).mean() > 4 * unit(white, covariance).mean()


def test_the_fit_does_not_depend_on_the_unit_of_residuals():
    one = fit_standardisation(glossy_views(), 0.01)
    other = fit_standardisation(glossy_views(unit=100.0), 1.0)
    assert other.standardisation.near_weight == one.standardisation.near_weight
    assert other.standardisation.floor == pytest.approx(100 * one.standardisation.floor)
    assert other.scores == pytest.approx(one.scores, rel=1e-3)


def test_scores_of_held_out_views_come_from_fits_without_them():
    views = glossy_views()
    fit = fit_standardisation(views, 0.01)
    for left_out in (0, 5):
        others = [view for index, view in enumerate(views) if index != left_out]
        unit = fit_standardisation(others, 0.01).standardisation
        view = views[left_out]
        score = unit(
            view.residual, unit.covariance(view.common[0], view.near, view.correction)
        ).max()
        assert fit.scores[left_out] == pytest.approx(float(score), rel=1e-4)


def test_edges_do_not_glow_outside_the_silhouette():
    alpha = torch.zeros(60, 60)
    alpha[20:40, 20:40] = 1.0
    rendered = 0.1 * alpha  # the same expectation everywhere on the object
    extended = extend_beyond_silhouette(torch.stack([rendered, 2 * rendered]), alpha, 2.0)
    assert torch.allclose(extended[0], torch.full((60, 60), 0.1), atol=1e-5)
    assert torch.allclose(extended[1], 2 * extended[0], atol=1e-5)
    empty = torch.zeros(8, 8)
    assert torch.equal(extend_beyond_silhouette(empty[None], empty, 2.0), empty[None])


def test_standardisation_without_views_is_refused():
    with pytest.raises(ValueError, match="held-out views"):
        fit_standardisation([], 1.0)


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


@pytest.mark.parametrize("model", ["gain", "affine"])
def test_light_of_a_stack_is_that_of_each_image(model):
    rendering, query, foreground = (torch.stack([each] * 4) for each in plate())
    query[1] = 0.7 * query[1] + 0.1
    foreground[1, :, 40:] = False  # fewer pixels than the others have
    query[2] *= torch.tensor([0.8, 1.0, 1.1])[:, None, None]
    foreground[3] = False
    together = fit_photometry(query, rendering, foreground, model)
    assert together.significant.tolist() == [False, True, True, False]
    for number in range(4):
        alone = fit_photometry(query[number], rendering[number], foreground[number], model)
        assert bool(alone.significant) == bool(together.significant[number])
        assert torch.allclose(together.matrix[number], alone.matrix, atol=1e-6)
        assert torch.allclose(together.offset[number], alone.offset, atol=1e-6)
    assert torch.equal(together(rendering)[0], rendering[0])
    assert torch.allclose(together(rendering)[1], 0.7 * rendering[1] + 0.1, atol=0.02)


@pytest.mark.parametrize("gains", [(0.7, 0.7, 0.7), (0.95, 1.0, 0.8), (1.0, 1.0, 1.0)])
def test_a_plain_background_tells_the_exposure(gains):
    image = torch.full((3, 60, 60), 0.9)
    image[:, 20:50, 0:40] = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(0))
    change = torch.tensor(gains)
    found = background_gains(image * change[:, None, None], torch.full((3,), 0.9))
    assert torch.allclose(found, 1.0 / change, atol=1e-5)


def test_no_exposure_is_read_off_a_background_that_does_not_show_it():
    ones = torch.ones(3)
    noise = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))
    assert torch.equal(background_gains(noise, ones), ones)
    assert torch.equal(background_gains(torch.zeros(3, 60, 60), torch.zeros(3)), ones)
    assert torch.equal(background_gains(torch.full((3, 60, 60), 0.5), torch.zeros(3)), ones)
    nearly = torch.full((3, 60, 60), 0.99)
    assert torch.equal(background_gains(nearly, ones), ones)
