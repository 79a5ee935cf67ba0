"""Our own rasteriser for GPUs, in Triton: nothing to compile, nothing but PyTorch to install."""

from .pose import pose_rows
from .rasteriser import rasterise, rasterise_views

__all__ = ["pose_rows", "rasterise", "rasterise_views"]
