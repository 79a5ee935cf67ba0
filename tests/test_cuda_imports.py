"""A machine without a GPU never loads a CUDA package; GPU checks say why they are skipped."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PROBE = """
import sys
import torch
before = set(sys.modules)
import anomaly, gaussian_renderer, gaussian_renderer.batch, gaussian_renderer.cuda_pose
import pose_estimation, scene
import train, detect
from gaussian_renderer import photometric_loss, render
from scene import Camera, Gaussians
camera = Camera(torch.eye(4, dtype=torch.float64), 20.0, 20.0, 8.0, 8.0, 16, 16)
g = Gaussians(torch.tensor([[0.0, 0.0, 2.0]]), torch.full((1, 3), -1.0),
              torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(1), torch.ones(1, 1, 3))
g.requires_grad_()
image = render(g, camera, torch.ones(3)).image
photometric_loss(image, torch.zeros_like(image)).backward()
assert g.means.grad is not None
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(" ".join(sorted(loaded)))
"""
NEVER = {"gsplat", "diff_gaussian_rasterization", "simple_knn", "triton", "fused_ssim"}


def test_training_on_the_cpu_loads_no_cuda_package() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert not NEVER & set(result.stdout.split())


@pytest.mark.parametrize("backend", ["triton", "gsplat", "graphdeco"])
def test_backend_on_the_gpu_agrees_with_reference(backend: str) -> None:
    """The comparison of benchmarks/gpu_check.py, where there is a GPU and the package."""
    from gaussian_renderer import available_backends

    if not torch.cuda.is_available():
        pytest.skip("no GPU: PyTorch sees no CUDA device")
    if backend not in available_backends("cuda"):
        pytest.skip(f"the package of backend {backend} is not installed")
    from benchmarks.gpu_steps import compare_backend
    from benchmarks.gpu_table import within_limits

    assert within_limits(compare_backend(backend))
