"""Residuals in units of what is normal: the Mahalanobis distance and its fit."""

import pytest
import torch

from anomaly.mahalanobis import (
    HeldOutMaps,
    Mahalanobis,
    extend_beyond_silhouette,
    fit_mahalanobis,
    outer,
)
from anomaly.specular import FRAMES


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
        views.append(HeldOutMaps(unit * residual, *maps, torch.ones(size, size, dtype=torch.bool)))
    return views


def test_near_views_count_where_they_tell_something():
    assert fit_mahalanobis(glossy_views(), 0.01).mahalanobis.near_weight == 1.0
    blind = fit_mahalanobis(glossy_views(near=0.0), 0.01).mahalanobis
    assert blind.near_weight == 0.0  # equal candidates: the simplest
    assert blind.floor > 0


def test_the_map_is_the_mahalanobis_distance():
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(3, 3, generator=generator)
    covariance = factor @ factor.T
    residual = torch.randn(3, 5, 4, generator=generator)
    unit = Mahalanobis(near_weight=2.0, correction_weight=0.5, floor=0.3)
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
    unit = Mahalanobis(floor=1e-4)
    along = direction[:, None, None].expand(3, 32, 32)
    assert torch.allclose(unit(along, covariance), torch.ones(32, 32), atol=1e-2)
    assert unit(0.01 * along + 1e-4, covariance).max() < 3.0


def test_a_colour_that_nothing_innocent_has_counts_more_than_gloss():
    covariance = six(1e-4 * torch.eye(3) + 4e-3 * torch.ones(3, 3))
    unit = Mahalanobis(floor=1e-3)
    white = torch.full((3, 32, 32), 0.05)
    tint = torch.tensor([0.05, -0.05, 0.05])[:, None, None].expand(3, 32, 32)
    assert unit(tint, covariance).mean() > 4 * unit(white, covariance).mean()


def test_the_fit_does_not_depend_on_the_unit_of_residuals():
    one = fit_mahalanobis(glossy_views(), 0.01)
    other = fit_mahalanobis(glossy_views(unit=100.0), 1.0)
    assert other.mahalanobis.near_weight == one.mahalanobis.near_weight
    assert other.mahalanobis.floor == pytest.approx(100 * one.mahalanobis.floor)
    assert other.scores == pytest.approx(one.scores, rel=1e-3)


def test_scores_of_held_out_views_come_from_fits_without_them():
    views = glossy_views()
    fit = fit_mahalanobis(views, 0.01)
    for left_out in (0, 5):
        others = [view for index, view in enumerate(views) if index != left_out]
        unit = fit_mahalanobis(others, 0.01).mahalanobis
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


def test_a_fit_without_views_is_refused():
    with pytest.raises(ValueError, match="held-out views"):
        fit_mahalanobis([], 1.0)
