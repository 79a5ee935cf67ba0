"""Our own rasteriser for GPUs, in Triton: no nvcc, nothing but PyTorch to install."""

from .pose import pose_rows
from .rasteriser import rasterise, rasterise_views

__all__ = ["pose_rows", "rasterise", "rasterise_views"]
