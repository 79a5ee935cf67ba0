"""Flagged regions of an anomaly map."""

import numpy as np
import pytest

from anomaly import find_regions


def test_regions_by_hand():
    values = np.zeros((8, 10))
    values[1:3, 2:5] = 2.0
    values[3, 5] = 3.0  # touches by a corner
    values[6, 8] = 5.0
    first, second = find_regions(values, 2.0)
    assert (first.area, first.peak, first.bbox) == (1, 5.0, (8, 6, 1, 1))
    assert first.centroid == (8.5, 6.5)
    assert (second.area, second.peak, second.bbox) == (7, 3.0, (2, 1, 4, 3))
    assert [region.area for region in find_regions(values, 2.0, minimal_area=2)] == [7]
    assert find_regions(values, 9.0) == []
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        find_regions(values[None], 1.0)
