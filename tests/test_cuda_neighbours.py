"""Distances to neighbours by simple-knn and by scipy: the same numbers."""

import importlib.util
import sys
from types import ModuleType

import pytest
import torch
from pretend_cuda import PretendCuda, mark, on_gpu
from torch import Tensor

from scene.neighbours import mean_squared_distances


def dist_cuda2(points: Tensor) -> Tensor:
    """What simple-knn's function of that name computes, with its demands on the input."""
    assert on_gpu(points)
    assert points.dtype == torch.float32
    with torch._C.DisableTorchFunction():
        nearest = torch.cdist(points, points).topk(4, largest=False).values[:, 1:]
        return mark(nearest.square().mean(dim=1))


def test_by_hand() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [9, 9, 9]])
    assert mean_squared_distances(points)[0] == pytest.approx((1 + 4 + 9) / 3)
    assert mean_squared_distances(points[:2]).tolist() == [1.0, 1.0]


def test_simple_knn_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = mean_squared_distances(points)
    extension = ModuleType("simple_knn._C")
    extension.distCUDA2 = dist_cuda2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "simple_knn._C", extension)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with PretendCuda():
        found = mean_squared_distances(points, "cuda")
        assert not on_gpu(found)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_on_the_gpu_itself() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: PyTorch sees no CUDA device")
    if importlib.util.find_spec("simple_knn") is None:
        pytest.skip("simple-knn is not installed")
    points = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        mean_squared_distances(points, "cuda"), mean_squared_distances(points), rtol=1e-4, atol=1e-9
    )
