"""Our own rasteriser for GPUs, in Triton: no nvcc, nothing but PyTorch to install."""

from ..backend import Backend
from .adam import fused_adam
from .pose import pose_rows
from .rasteriser import rasterise, rasterise_views
from .ssim import fused_photometric_loss

__all__ = ["BACKEND"]

BACKEND = Backend(
    "triton",
    rasterise,
    rasterise_views=rasterise_views,
    pose_rows=pose_rows,
    photometric_loss=fused_photometric_loss,
    adam=fused_adam,
)
