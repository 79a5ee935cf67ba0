"""Comparison of a query with its prediction: light, and what sticks out over the silhouette."""

import numpy as np
import pytest
import torch

from anomaly import in_known_light
from anomaly.mahalanobis import Mahalanobis
from anomaly.normal_model import Prediction
from anomaly.scoring import compare
from benchmarks.painted_defects import KINDS, DefectKind, paint
from gaussian_renderer import RenderingBatch

SIZE = 96


def shown() -> Prediction:
    """A colourful square before a white background, and a plain covariance."""
    generator = torch.Generator().manual_seed(0)
    alpha = torch.zeros(SIZE, SIZE)
    alpha[24:72, 24:72] = 1.0
    colours = 0.15 + 0.5 * torch.rand(3, 12, 12, generator=generator)
    picture = torch.nn.functional.interpolate(colours[None], (SIZE, SIZE), mode="bicubic")[0]
    image = torch.where(alpha > 0.5, picture.clamp(0.05, 0.7), torch.tensor(1.0))
    covariance = torch.zeros(6, SIZE, SIZE)
    covariance[[0, 3, 5]] = 1e-4
    return Prediction(image, alpha, 4.0 * alpha, covariance, torch.tensor(1.0))


@pytest.mark.parametrize("gains", [(0.7, 0.7, 0.7), (1.3, 1.3, 1.3), (1.15, 1.0, 0.85)])
@pytest.mark.parametrize("whole_picture", [True, False])
def test_exposure_and_lamp_are_no_defects(
    gains: tuple[float, float, float], whole_picture: bool
) -> None:
    good = shown()
    changed = (good.image * torch.tensor(gains)[:, None, None]).clamp(0.0, 1.0)
    query = changed if whole_picture else torch.where(good.alpha > 0.5, changed, good.image)
    rendering, residual = compare(query, good)
    assert residual.abs().max() < 0.02
    assert (rendering - query).abs().max() < 0.02


@pytest.mark.parametrize("kind", [k for k in KINDS if k.what in ("excess", "missing", "neighbour")])
def test_painted_defects_stand_out_at_their_place(kind: DefectKind) -> None:
    good = shown()
    painted = paint(good.image, good.alpha > 0.5, (1, 1, 1), kind, np.random.default_rng(4))
    unit = Mahalanobis(floor=1e-3)
    _, residual = compare(painted.image, good)
    found = unit(residual, good.maps)
    assert unit(compare(good.image, good)[1], good.maps).max() == 0
    y, x = divmod(int(found.argmax()), SIZE)
    assert painted.mask[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].any()
    if kind.what == "excess":
        beside = painted.mask & (good.alpha < 0.5)
        assert beside.any()
        assert found[beside].max() > 5


def test_painting_is_repeatable_and_stays_in_range() -> None:
    good = shown()
    for kind in KINDS:
        one, two = (
            paint(good.image, good.alpha > 0.5, (1, 1, 1), kind, np.random.default_rng(7))
            for _ in range(2)
        )
        assert torch.equal(one.image, two.image)
        assert one.image.min() >= 0
        assert one.image.max() <= 1
        assert (one.image != good.image).any()
    with pytest.raises(ValueError, match="needs an object"):
        paint(good.image, good.alpha > 2, (1, 1, 1), KINDS[0], np.random.default_rng(0))


@pytest.mark.parametrize("gain", [0.7, 1.3])
def test_a_lamp_is_taken_off_and_the_background_stays(gain: float) -> None:
    good = shown()
    rendering = RenderingBatch(good.image[None], good.alpha[None], None)
    query = torch.where(good.alpha > 0.5, (gain * good.image).clamp(0.0, 1.0), good.image)
    query[:, 30:36, 30:40] = 0.0  # a defect stays one
    (restored,), (is_light,) = in_known_light(query[None], rendering, torch.ones(3))
    assert is_light
    sound = torch.ones(SIZE, SIZE, dtype=torch.bool)
    sound[30:36, 30:40] = False
    assert ((restored - good.image).abs()[:, sound] < 0.02).float().mean() > 0.99
    assert restored[:, 31:35, 31:39].max() < 0.05


def test_light_is_no_excuse_for_another_object() -> None:
    good = shown()
    rendering = RenderingBatch(good.image[None], good.alpha[None], None)
    other = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    for query in (other, good.image):
        assert not in_known_light(query[None], rendering, torch.ones(3))[1]
