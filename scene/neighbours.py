"""How far the nearest points are: the size of a Gaussian at the start."""

import importlib
import importlib.util

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

NEIGHBOURS = 3  # as in 3DGS; fixed in simple-knn


def mean_squared_distances(
    points: Tensor,  # [N, 3], N >= 2
    device: torch.device | str = "cpu",
) -> Tensor:
    """Mean squared distance of every point to its three nearest neighbours, [N] float32 on the CPU.

    On a GPU simple-knn (submodules/simple-knn) does it where it is installed, else scipy; they
    agree to float32 rounding.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and len(points) > NEIGHBOURS and importlib.util.find_spec("simple_knn") is not None:
        return by_simple_knn(points.detach().float().to(device)).cpu()
    where = points.detach().to("cpu", torch.float64).numpy()
    wanted = np.arange(2, min(NEIGHBOURS + 1, len(where)) + 1)  # the first is the point itself
    distances, _ = cKDTree(where).query(where, k=wanted)
    return torch.from_numpy(distances).square().mean(dim=1).float()


def by_simple_knn(points: Tensor) -> Tensor:  # [N, 3] float32, N > 3, on the GPU
    """The same by simple-knn, [N] on the GPU."""
    extension = importlib.import_module("simple_knn._C")
    squared: Tensor = extension.distCUDA2(points.contiguous())
    return squared
