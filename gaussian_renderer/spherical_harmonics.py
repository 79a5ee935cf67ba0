"""Real spherical harmonics up to degree 3, with the signs that 3DGS files use."""

import torch
from torch import Tensor

from scene.gaussians import SH_CONSTANT

C0 = SH_CONSTANT
_C1 = 0.4886025119029199
_C2 = (1.0925484305920792, -1.0925484305920792, 0.31539156525252005, -1.0925484305920792,
       0.5462742152960396)  # fmt: skip
_C3 = (-0.5900435899266435, 2.890611442640554, -0.4570457994644658, 0.3731763325901154,
       -0.4570457994644658, 1.445305721320277, -0.5900435899266435)  # fmt: skip


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Basis functions at unit directions [..., 3] as [..., (degree + 1)^2]."""
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, C0)]
    if degree > 0:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        basis += [_C2[0] * x * y, _C2[1] * y * z, _C2[2] * (2 * zz - xx - yy), _C2[3] * x * z,
                  _C2[4] * (xx - yy)]  # fmt: skip
    if degree > 2:
        basis += [_C3[0] * y * (3 * xx - yy), _C3[1] * x * y * z, _C3[2] * y * (4 * zz - xx - yy),
                  _C3[3] * z * (2 * zz - 3 * xx - 3 * yy), _C3[4] * x * (4 * zz - xx - yy),
                  _C3[5] * z * (xx - yy), _C3[6] * x * (xx - 3 * yy)]  # fmt: skip
    return torch.stack(basis, dim=-1)


def sh_colours(sh: Tensor, directions: Tensor) -> Tensor:
    """Colours [..., N, 3] of coefficients [N, K, 3] seen along unit directions [..., N, 3].

    0.5 is added and negative values are cut, as in 3DGS (Kerbl et al. 2023).
    """
    degree = int(sh.shape[1] ** 0.5) - 1
    basis = sh_basis(directions, degree)
    return (torch.einsum("...nk,nkc->...nc", basis, sh) + 0.5).clamp_min(0.0)
