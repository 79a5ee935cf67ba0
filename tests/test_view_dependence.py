"""Few views do not determine view-dependent colours: these are shrunk."""

import math

import pytest
import torch
from cpu_scenes import cloud

from gaussian_renderer import shrink_view_dependence
from pipeline.presets import TRAINING


def test_high_degrees_shrink_most_and_the_constant_not() -> None:
    gaussians = cloud(20, degree=3)
    before = gaussians.sh.clone()
    shrink_view_dependence(gaussians, 0.3)
    for place in range(gaussians.sh.shape[1]):
        degree = math.isqrt(place)
        factor = math.exp(-0.3 * degree * (degree + 1) / 6)
        assert torch.allclose(gaussians.sh[:, place], factor * before[:, place])
    assert gaussians.sh.shape[1] == 16


def test_no_amount_changes_no_bit() -> None:
    gaussians = cloud(20, degree=3)
    before = gaussians.sh.clone()
    shrink_view_dependence(gaussians, 0.0)
    assert torch.equal(gaussians.sh, before)


@pytest.mark.parametrize(("views", "decay"), [(189, 0.085), (32, 2.95)])
def test_few_views_are_shrunk_more(views: int, decay: float) -> None:
    assert TRAINING["default"].colour_decay(views) == pytest.approx(decay, abs=0.01)
    assert TRAINING["paper"].colour_decay(views) == 0.0
