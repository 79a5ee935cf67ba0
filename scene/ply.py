"""The object model on disk: the PLY of 3DGS, as SuperSplat, viser and SIBR read it.

One vertex element, binary little-endian float32, in this order: x y z, nx ny nz (zero),
f_dc_0..2, f_rest_* (channel by channel: all red coefficients, then green, then blue; none at
degree 0), opacity (logit), scale_0..2 (logarithms), rot_0..3 (quaternion wxyz).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement

from .errors import InputError
from .files import atomic_write
from .gaussians import Gaussians

_POSITION = ("x", "y", "z")
_NORMAL = ("nx", "ny", "nz")
_DC = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_REST_COUNTS = {0: 0, 9: 1, 24: 2, 45: 3}  # number of f_rest properties: degree


def property_names(sh_degree: int) -> list[str]:
    """The vertex properties in their order on disk."""
    rest = [f"f_rest_{i}" for i in range(3 * ((sh_degree + 1) ** 2 - 1))]
    return [*_POSITION, *_NORMAL, *_DC, *rest, "opacity", *_SCALE, *_ROTATION]


def save_ply(gaussians: Gaussians, path: str | Path) -> None:
    """Writes the Gaussians, atomically and as float32.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    count = len(gaussians)
    rest = gaussians.sh[:, 1:, :].transpose(1, 2).flatten(1)  # [N, 3 (K - 1)]
    normals = torch.zeros_like(gaussians.means)
    columns = (
        gaussians.means, normals, gaussians.sh[:, 0, :], rest,
        gaussians.opacity_logits[:, None], gaussians.log_scales, gaussians.quaternions,
    )  # fmt: skip
    table = torch.cat(columns, dim=1).detach().to("cpu", torch.float32).contiguous().numpy()
    layout = [(name, "<f4") for name in property_names(gaussians.sh_degree)]
    vertices = table.view(layout).reshape(count)
    with atomic_write(path) as file:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(file)


def load_ply(path: str | Path) -> Gaussians:
    """Reads Gaussians of degree 0 to 3, float32 on the CPU.

    Raises:
        InputError: the file is missing, truncated, or not a PLY of 3DGS.
    """
    path = Path(path)
    vertices = _vertices(path)
    names = vertices.dtype.names or ()
    rest = [name for name in names if name.startswith("f_rest_")]
    if len(rest) not in _REST_COUNTS:
        raise InputError(
            f"{path} has {len(rest)} f_rest properties, where degrees 0 to 3 have 0, 9, 24 or 45: "
            "export it from 3DGS again."
        )
    degree = _REST_COUNTS[len(rest)]
    missing = [n for n in property_names(degree) if n not in names and n not in _NORMAL]
    if missing:
        raise InputError(
            f"{path} is a PLY but not one of 3DGS (it lacks {', '.join(missing)}): "
            "give the point_cloud.ply of a model folder."
        )
    rest_in_order = [f"f_rest_{i}" for i in range(len(rest))]
    higher = _columns(vertices, rest_in_order).reshape(len(vertices), 3, len(rest) // 3)
    constant = _columns(vertices, _DC)[:, None, :]  # [N, 1, 3]
    sh = np.concatenate([constant, higher.transpose(0, 2, 1)], axis=1)  # [N, K, 3]
    gaussians = Gaussians(
        means=torch.from_numpy(_columns(vertices, _POSITION)),
        log_scales=torch.from_numpy(_columns(vertices, _SCALE)),
        quaternions=torch.from_numpy(_columns(vertices, _ROTATION)),
        opacity_logits=torch.from_numpy(_columns(vertices, ("opacity",))[:, 0].copy()),
        sh=torch.from_numpy(sh),
    )
    if not all(tensor.isfinite().all() for tensor in gaussians.named_tensors().values()):
        raise InputError(f"{path} holds NaN or infinity: train the model again.")
    return gaussians


def _vertices(path: Path) -> NDArray[np.void]:
    try:
        with path.open("rb") as file:
            content = PlyData.read(file, mmap="r")
    except FileNotFoundError:
        raise InputError(f"There is no file {path}: check the path of the model.") from None
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error.strerror}): fix its permissions.") from error
    except Exception as error:  # a header that lies makes the parser raise whatever it meets
        raise InputError(
            f"{path} is truncated or not a PLY file ({error}): restore it or train the model again."
        ) from error
    if "vertex" not in content:
        raise InputError(f"{path} has no vertices: give the point_cloud.ply of a model folder.")
    vertices = content["vertex"].data
    if not len(vertices):
        raise InputError(f"{path} holds no Gaussians: train the model again.")
    return vertices


def _columns(vertices: NDArray[np.void], names: tuple[str, ...] | list[str]) -> NDArray[np.float32]:
    """[N, len(names)] float32."""
    if not names:
        return np.empty((len(vertices), 0), np.float32)
    return np.stack([np.asarray(vertices[name], np.float32) for name in names], axis=1)
