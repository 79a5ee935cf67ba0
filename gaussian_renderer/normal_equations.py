"""One Gauss-Newton step's worth of information about poses: J^T W J and J^T W r."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians

from .backend import Backend, PoseRows
from .backends import select_backend
from .pose_by_rendering import pose_rows_by_rendering
from .variants import Variants


@dataclass(frozen=True)
class NormalEquations:
    """Sums over pixels for the twist (omega, v) of view' = exp(twist) view, camera's frame."""

    jtj: Tensor  # [6, 6] float64, J^T W J
    jtr: Tensor  # [6] float64, J^T W r of r = rendering - target; the gradient of `loss`
    loss: float  # sum over pixels of weight * Huber(|r|)
    weight: float  # sum of all weights, Huber's included
    inliers: int  # pixels with |r| <= huber and a positive weight
    pixels: int  # pixels with a positive weight

    @classmethod
    def from_row(cls, row: Tensor) -> "NormalEquations":
        """From 46 numbers on the host: jtj, jtr, loss, weight, inliers, pixels."""
        loss, weight, inliers, pixels = row[42:].tolist()
        square = row[:36].double().reshape(6, 6)
        return cls(square, row[36:42].double(), loss, weight, int(inliers), int(pixels))


def pose_normal_equations(
    gaussians: Gaussians,
    camera: Camera,
    target: Tensor,  # [3, H, W]
    background: Tensor,  # [3]
    pose: Tensor | None = None,  # [4, 4] SE(3), moves the object; the camera stays
    *,
    huber: float = 0.1,
    weights: Tensor | None = None,  # [H, W], not negative
    backend: str = "auto",
    threads: int = 1,
) -> NormalEquations:
    """Linearises the rendering about the pose, with a robust weight for every pixel.

    The loss is the sum over pixels of weights * h(|r|), where |r| is the norm of the residual over
    the colour channels and h(x) = x^2 / 2 up to `huber`, huber (x - huber / 2) beyond (Huber 1964);
    W = weights * min(1, huber / |r|). The derivatives include the viewing direction of the
    spherical harmonics. All is exact where the backend offers `pose_rows`; elsewhere only jtj is
    not, which comes from central differences over renders (`pose_by_rendering.py`).

    Raises InputError for wrong shapes or types.
    """
    view, like = camera.world_to_camera, gaussians.means
    if pose is not None:
        view = view @ pose.detach().to(view)
    rows = pose_rows_of(select_backend(backend, like.device))(
        gaussians.detach(), camera, view[None], target.to(like)[None], background.to(like), huber,
        owners=torch.zeros(1, dtype=torch.int64, device=like.device),
        weights=None if weights is None else weights.to(like)[None], threads=threads,
    )  # fmt: skip
    return NormalEquations.from_row(rows[0].cpu())


class PoseProblems:
    """B pose problems of one object; images and variants stay, equations are asked for.

    With a backend that `renders_many`, all come from few calls and the device is waited for once,
    at the end; the renderer's own waits come on top. With another, they come one by one.
    """

    def __init__(
        self,
        variants: Variants,  # B of them
        camera: Camera,  # lens and size of all images
        targets: Tensor,  # [B, 3, H, W]
        background: Tensor,  # [3]
        *,
        huber: float = 0.1,
        backend: str = "auto",
        threads: int = 1,
    ) -> None:
        rows = pose_rows_of(select_backend(backend, variants.gaussians.means.device))
        self._rows = functools.partial(rows, variants=variants, threads=threads)
        self._shared = (targets, background.to(targets), huber)
        self._gaussians, self._camera = variants.gaussians.detach(), camera

    def __call__(self, numbers: Sequence[int], poses: Tensor) -> list[NormalEquations]:
        """The equations of some of the problems at world_to_camera [K, 4, 4], in that order."""
        device = self._gaussians.means.device
        owners = torch.tensor(list(numbers)).to(device, non_blocking=True)
        views = poses.to(device, torch.float64, non_blocking=True)
        rows = self._rows(self._gaussians, self._camera, views, *self._shared, owners=owners)
        return [NormalEquations.from_row(row) for row in rows.cpu()]


def pose_rows_of(backend: Backend) -> PoseRows:
    """The backend's own normal equations, or those by rendering."""
    return backend.pose_rows or functools.partial(pose_rows_by_rendering, backend)
