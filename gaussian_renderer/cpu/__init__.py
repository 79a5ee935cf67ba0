"""The native CPU backend: rasteriser, photometric loss, Adam.

The kernel is C++ (src/), installed by `pip install .` as the module `splatpose_cpu`; these files
hand it the addresses of tensors.
"""

from .native import instruction_set
from .optimiser import AdamGroup, adam_reference, fused_adam
from .photometric import fused_photometric_loss, photometric_gradient
from .rasteriser import rasterise

__all__ = [
    "AdamGroup",
    "adam_reference",
    "fused_adam",
    "fused_photometric_loss",
    "instruction_set",
    "photometric_gradient",
    "rasterise",
]
