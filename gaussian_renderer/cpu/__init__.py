"""The native CPU backend: rasteriser, pose equations, photometric loss, Adam.

The kernel is C++ (src/), installed by `pip install .` as the module `splatpose_cpu`; these files
hand it the addresses of tensors.
"""

from ..backend import Backend
from .native import instruction_set
from .optimiser import fused_adam
from .photometric import fused_photometric_loss, photometric_gradient
from .pose import pose_rows
from .rasteriser import rasterise

__all__ = [
    "BACKEND",
    "fused_adam",
    "fused_photometric_loss",
    "instruction_set",
    "photometric_gradient",
]

BACKEND = Backend(
    "cpu",
    rasterise,
    pose_rows=pose_rows,
    photometric_loss=fused_photometric_loss,
    adam=fused_adam,
)
