"""Sums of responses under templates: the native search, its reference, and their layout."""

import numpy as np
import pytest
import torch

from gaussian_renderer import PLACES_AT_ONCE, template_peaks
from gaussian_renderer.cpu.templates import template_peaks as native
from gaussian_renderer.template_matching import template_peaks_reference
from pose_estimation.gradient_templates import GradientTemplates
from pose_estimation.gradients import BINS, FULL, direction_bins, edges, response_maps, scattered
from pose_estimation.placements import Placements, ScoreMaps
from pose_estimation.template_search import TemplateSearch
from pose_estimation.viewpoints import fibonacci_sphere, look_at
from scene import InputError

POINTS = 63


def responses(templates: int, places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory, starts and valid places at random; many places share the largest sum."""
    generator = np.random.default_rng(5)
    memory = generator.integers(0, FULL + 1, 9000, dtype=np.uint8)
    memory[2000:6000] = FULL
    starts = generator.integers(0, 9000 - places, (templates, POINTS)).astype(np.int32)
    valid = (generator.random(places) < 0.8).astype(np.uint8) * 255
    return memory, starts, valid


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("templates", "blocks"), [(1, 1), (200, 3), (64, 7)])
def test_the_native_search_gives_the_bits_of_the_reference(
    templates: int, blocks: int, threads: int
) -> None:
    memory, starts, valid = responses(templates, blocks * PLACES_AT_ONCE)
    expected = template_peaks_reference(memory, starts, valid)
    for found in (native, template_peaks):
        best, where = found(memory, starts, valid, threads)
        assert np.array_equal(best, expected[0])
        assert np.array_equal(where, expected[1])


def test_a_place_that_is_not_valid_is_never_the_best() -> None:
    memory, starts, valid = responses(50, PLACES_AT_ONCE)
    _, where = template_peaks(memory, starts, valid)
    assert (valid[where] == 255).all()


def test_a_template_that_reaches_out_of_the_memory_is_refused() -> None:
    memory, starts, valid = responses(3, PLACES_AT_ONCE)
    for wrong in (memory.size - PLACES_AT_ONCE + 1, -1):
        starts[1, 2] = wrong
        with pytest.raises(InputError, match="reaches out"):
            template_peaks(memory, starts, valid)
    with pytest.raises(InputError, match="multiple"):
        template_peaks(memory, starts, valid[:-1])


def made_templates(reach: float) -> GradientTemplates:
    """Random points around an object that was seen from all around at one distance."""
    generator = np.random.default_rng(2)
    centre = torch.zeros(3, dtype=torch.float64)
    poses = torch.stack([look_at(4.0 * d, centre) for d in fibonacci_sphere(30)])
    return GradientTemplates(
        poses=poses,
        points=generator.uniform(-reach, reach, (30, POINTS, 2)).astype(np.float32),
        directions=generator.uniform(0, np.pi, (30, 43)).astype(np.float32),
        colours=generator.integers(0, 3, (30, 20)),
        palette=np.zeros((3, 3), np.float32),
        centre=centre,
        distance=4.0,
        nearest=4.0,
        farthest=4.0,
        focal=100.0,
    )


def test_a_search_over_all_places_finds_what_reading_them_one_by_one_finds() -> None:
    # Responses are constant in squares of 2 x 2 pixels, so that the grain of the search is none.
    templates = made_templates(reach=30)
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, FULL + 1, (BINS + 3, 21, 27), dtype=np.uint8)
    maps = coarse.repeat(2, axis=1).repeat(2, axis=2)
    found, scores = TemplateSearch(templates).peaks(maps, 1.0)
    read = ScoreMaps(maps, templates, margin=60)
    x, y = np.meshgrid(np.arange(0, 54, 4) + 0.5, np.arange(0, 42, 4) + 0.5)
    for number in range(0, len(found), 97):
        one = [np.full(x.size, part[number]) for part in (found.views, found.rolls, found.scales)]
        each = read.scores(Placements(*one, x.ravel(), y.ravel()))
        assert scores[number] == pytest.approx(each.max())
    assert read.scores(found) == pytest.approx(scores)


def test_an_edge_answers_to_its_direction_and_less_to_the_next_ones() -> None:
    image = np.zeros((40, 40, 3), np.float32)
    image[:, 20:] = (0.2, 0.6, 0.3)
    direction, strength = edges(image)
    assert strength[20].argmax() in (19, 20)
    assert direction_bins(direction[20, 19:21]).tolist() == [0, 0]
    maps = response_maps(image, np.zeros((1, 3), np.float32), reach=5)
    assert maps[:BINS, 20, 20].tolist() == [4, 2, 0, 0, 0, 0, 0, 2]
    assert not maps[:BINS, 20, 30].any()
    inverted = response_maps(1 - image, np.zeros((1, 3), np.float32), reach=5)
    assert np.array_equal(inverted[:BINS], maps[:BINS])  # the background may be light or dark


def test_scattered_points_leave_no_part_out_and_favour_heavy_ones() -> None:
    line = np.stack([np.arange(100.0), np.zeros(100)], axis=1).astype(np.float32)
    chosen = np.sort(scattered(line, 11))
    assert np.diff(chosen).max() <= 20
    weights = np.where(np.arange(100) % 2 == 0, 1.0, 0.01).astype(np.float32)
    assert (scattered(line, 8, weights) % 2 == 0).all()
    assert len(scattered(line[:2], 5)) == 5
