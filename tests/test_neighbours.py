"""Distances to neighbours; `test_gpu.py` holds simple-knn against them."""

import pytest
import torch

from scene.initialise import mean_squared_distances


def test_by_hand() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [9, 9, 9]])
    assert mean_squared_distances(points)[0] == pytest.approx((1 + 4 + 9) / 3)
    assert mean_squared_distances(points[:2]).tolist() == [1.0, 1.0]
