"""Triton kernels without a GPU: its interpreter runs the same code on CPU tensors.

To be imported before `triton` is. Without the package (a PyTorch with CUDA brings it) the tests
that import this are skipped.
"""

import importlib.util
import os

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed: kernels cannot be interpreted", allow_module_level=True)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
