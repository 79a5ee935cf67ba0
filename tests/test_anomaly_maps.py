"""Filters, CIELAB, the tolerant residual, anomaly maps and scores."""

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from anomaly import feature_maps, make_features, resize_maps
from anomaly.colour import rgb_to_lab
from anomaly.filters import gaussian_blur, neighbourhood_range
from anomaly.residual import lab_residual


def scene(seed=0, size=64, batch=2):
    """A bright plate with coloured bricks, [batch, 3, size, size]."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.ones(batch, 3, size, size)
    for image in images:
        for _ in range(6):
            y, x = torch.randint(8, size - 24, (2,), generator=generator).tolist()
            image[:, y : y + 12, x : x + 16] = torch.rand(3, 1, 1, generator=generator)
    return images


@pytest.mark.parametrize("sigma", [0.7, 2.0, 4.0, 9.0])
def test_blur_is_that_of_scipy(sigma):
    image = torch.rand(3, 20, 31, generator=torch.Generator().manual_seed(1))
    expected = np.stack([gaussian_filter(plane, sigma) for plane in image.numpy()])
    assert np.abs(gaussian_blur(image, sigma).numpy() - expected).max() < 1e-6
    assert gaussian_blur(image, 0.0) is image


def test_neighbourhood_range_is_that_of_scipy():
    image = torch.rand(9, 13, generator=torch.Generator().manual_seed(2))
    low, high = neighbourhood_range(image)
    assert np.array_equal(low.numpy(), minimum_filter(image.numpy(), 3))
    assert np.array_equal(high.numpy(), maximum_filter(image.numpy(), 3))


def test_lab_matches_opencv_and_known_colours():
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    expected = cv2.cvtColor(image[1].permute(1, 2, 0).numpy(), cv2.COLOR_RGB2LAB)
    difference = rgb_to_lab(image)[1].permute(1, 2, 0).numpy() - expected
    assert np.abs(difference).max() < 0.5  # OpenCV interpolates in a table
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.1
    white = rgb_to_lab(torch.ones(3, 1, 1)).flatten()
    assert torch.allclose(white, torch.tensor([100.0, 0, 0]), atol=1e-3)
    red = rgb_to_lab(torch.tensor([1.0, 0, 0]).reshape(3, 1, 1)).flatten()
    assert torch.allclose(red, torch.tensor([53.24, 80.09, 67.20]), atol=0.05)


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (-1, 1)])
def test_a_shift_of_one_pixel_is_forgiven_and_two_are_not(shift):
    image = scene()
    moved = image.roll(shift, dims=(2, 3))
    twice = image.roll((2 * shift[0], 2 * shift[1]), dims=(2, 3))
    assert lab_residual(moved, image).abs().max() < 1e-3
    assert lab_residual(twice, image).abs().max() > 0.05


def test_residual_is_zero_for_equal_images_and_signed():
    image = scene() * 0.5
    assert lab_residual(image, image).abs().max() == 0
    spot = image.clone()
    spot[:, :, 20:28, 20:28] = 1.0
    residual = lab_residual(spot, image)[:, 0, 22:26, 22:26]
    assert (residual > 0.2).all()  # the query is lighter
    assert torch.equal(lab_residual(image, spot), -lab_residual(spot, image))


@pytest.mark.parametrize("name", ["lab", "rgb"])
def test_a_painted_defect_is_found_where_it_is(name):
    features, _ = make_features(name)
    rendering = scene()
    query = rendering.clone()
    query[1, :, 30:36, 40:46] = torch.tensor([0.1, 0.6, 0.2]).reshape(3, 1, 1)
    maps, scores = feature_maps(features, query, rendering)
    assert maps.shape == (2, 64, 64)
    assert scores.shape == (2,)
    assert scores[0] == 0
    assert scores[1] == maps[1].max() > 0.01
    y, x = divmod(int(maps[1].argmax()), 64)
    assert abs(y - 32.5) < 3
    assert abs(x - 42.5) < 3


def test_batch_and_threads_do_not_change_a_map():
    features, _ = make_features("lab")
    query, rendering = scene(1, batch=3), scene(2, batch=3)
    together, scores = feature_maps(features, query, rendering)
    alone = [feature_maps(features, query[i : i + 1], rendering[i : i + 1])[0] for i in range(3)]
    assert torch.equal(together, torch.cat(alone))
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    again, scores_again = feature_maps(features, query, rendering)
    torch.set_num_threads(threads)
    assert torch.equal(together, again)
    assert torch.equal(scores, scores_again)


def test_rendered_values_above_one_are_clamped():
    features, _ = make_features("rgb")
    white = torch.ones(1, 3, 8, 8)
    assert feature_maps(features, white, white * 1.5)[1].item() == 0


def test_resize_and_sizes_that_differ():
    maps = torch.rand(2, 8, 8)
    assert resize_maps(maps, 8, 8) is maps
    assert resize_maps(torch.full((1, 8, 8), 3.0), 20, 30).sub(3).abs().max() < 1e-5
    with pytest.raises(ValueError, match="size of the query's camera"):
        feature_maps(make_features("rgb")[0], torch.ones(1, 3, 8, 8), torch.ones(1, 3, 8, 9))
