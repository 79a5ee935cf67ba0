"""Exposure and light of a whole image, told apart from defects."""

import pytest
import torch

from anomaly import background_gains, fit_photometry


def plate(seed=0):
    """A smooth colourful object [3, 80, 80] and where it is."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.15 + 0.5 * torch.rand(1, 3, 8, 8, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (80, 80), mode="bilinear")[0]
    noise = 0.004 * torch.randn(image.shape, generator=generator)
    foreground = torch.zeros(80, 80, dtype=torch.bool)
    foreground[10:70, 10:70] = True
    return image, image + noise, foreground


@pytest.mark.parametrize("defect", [None, 0.0, 1.0])
def test_light_is_fitted_and_a_fifth_of_defect_does_not_drag_it(defect):
    rendering, query, foreground = plate()
    query = (query * 0.85 + 0.03).clamp(0, 1)
    if defect is not None:
        query[:, 10:22, 10:70] = 0.95 * defect  # a fifth of the object, black or nearly white
    photometry = fit_photometry(query, rendering, foreground)
    assert photometry.significant
    assert torch.allclose(photometry.gain, torch.full((3,), 0.85), atol=0.02)
    assert torch.allclose(photometry.offset, torch.full((3,), 0.03), atol=0.01)
    residual = (photometry(rendering[None])[0] - query)[:, 30:70, 10:70]
    assert residual.abs().median() < 0.004


def test_no_change_of_light_is_left_alone():
    rendering, query, foreground = plate()
    query[:, 10:22, 10:70] = 0.0
    photometry = fit_photometry(query, rendering, foreground)
    assert not photometry.significant
    assert photometry(rendering) is rendering
    nothing = fit_photometry(query, rendering, torch.zeros_like(foreground))
    assert not nothing.significant


def test_light_of_a_stack_is_that_of_each_image():
    rendering, query, foreground = (torch.stack([each] * 4) for each in plate())
    query[1] = 0.7 * query[1] + 0.1
    foreground[1, :, 40:] = False  # fewer pixels than the others have
    query[2] *= torch.tensor([0.8, 1.0, 1.1])[:, None, None]
    foreground[3] = False
    together = fit_photometry(query, rendering, foreground)
    assert together.significant.tolist() == [False, True, True, False]
    for number in range(4):
        alone = fit_photometry(query[number], rendering[number], foreground[number])
        assert bool(alone.significant) == bool(together.significant[number])
        assert torch.allclose(together.gain[number], alone.gain, atol=1e-6)
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
