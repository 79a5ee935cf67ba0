"""One Gauss-Newton step's worth of information about the pose: J^T W J and J^T W r."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians

from . import reference
from .backends import available_backends, select_backend


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
    spherical harmonics. All is exact for "cpu", "triton" and "reference"; for the other backends
    on a GPU only jtj is not, which comes from central differences over one batch of renders.

    Raises InputError for wrong shapes or types.
    """
    view = camera.world_to_camera
    if pose is not None:
        view = view @ pose.detach().to(view)
    device = gaussians.means.device
    select_backend(backend, device)  # raises when it cannot run
    name = available_backends(device)[0] if backend == "auto" else backend
    if name == "reference":
        image, derivatives = pixel_jacobian_reference(gaussians, camera, view, background)
        return accumulate(image, derivatives, target, huber, weights)
    if name == "triton":
        return _by_triton(gaussians, camera, view, target, background, huber, weights)
    problem = target, background, huber, weights
    if name == "cpu":
        from .cpu.pose import normal_sums

        jtj, jtr, *rest = normal_sums(
            gaussians, camera, view.to(gaussians.means), *problem, threads
        )  # fmt: skip
    else:
        from .cuda_pose import normal_sums as sums_by_rendering

        jtj, jtr, *rest = sums_by_rendering(
            gaussians, camera, view, *problem, backend=name, threads=threads
        )
    square = torch.tensor(jtj, dtype=torch.float64).reshape(6, 6)
    return NormalEquations(square, torch.tensor(jtr, dtype=torch.float64), *rest)


def _by_triton(
    gaussians: Gaussians,
    camera: Camera,
    view: Tensor,
    target: Tensor,
    background: Tensor,
    huber: float,
    weights: Tensor | None,
) -> NormalEquations:
    """One problem for the kernel that takes many."""
    from .triton import pose_rows

    like = gaussians.means
    rows = pose_rows(
        gaussians.detach(), camera, view[None], target.to(like)[None], background.to(like), huber,
        owners=torch.zeros(1, dtype=torch.int64, device=like.device),
        weights=None if weights is None else weights.to(like)[None],
    )  # fmt: skip
    return NormalEquations.from_row(rows[0].cpu())


def pixel_jacobian_reference(
    gaussians: Gaussians, camera: Camera, view: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """The rendering [3, H, W] and its derivatives [6, 3, H, W], by forward-mode autograd."""
    gaussians = gaussians.detach()
    view, background = view.to(gaussians.means), background.detach().to(gaussians.means)
    screen = torch.zeros_like(gaussians.means[:, :2])

    def rendering(twist: Tensor) -> Tensor:
        moved = view + _generator(twist) @ view  # exp(twist) view to first order
        image, *_ = reference.rasterise(
            gaussians, camera, moved, background, None, False, screen, 1
        )
        return image

    zero = torch.zeros(6, dtype=view.dtype, device=view.device)
    directions = torch.eye(6, dtype=view.dtype, device=view.device)
    columns = [torch.func.jvp(rendering, (zero,), (d,))[1] for d in directions]
    return rendering(zero), torch.stack(columns)


def accumulate(
    image: Tensor,  # [C, H, W]
    derivatives: Tensor,  # [6, C, H, W]
    target: Tensor,  # [C, H, W]
    huber: float,
    weights: Tensor | None,  # [H, W]
) -> NormalEquations:
    """The sums that `NormalEquations` describes, in float64."""
    residual = (image - target.to(image)).double()
    given = torch.ones_like(residual[0]) if weights is None else weights.to(residual)
    norm = residual.square().sum(dim=0).sqrt()
    inlier = norm <= huber
    weight = given * torch.where(inlier, 1.0, huber / norm.clamp_min(1e-20))
    cost = torch.where(inlier, 0.5 * norm.square(), huber * (norm - 0.5 * huber))
    jacobian = derivatives.double().flatten(1)  # [6, C * H * W]
    weighted = (derivatives.double() * weight).flatten(1)
    return NormalEquations(
        jtj=(weighted @ jacobian.T).cpu(),
        jtr=(weighted @ residual.flatten()).cpu(),
        loss=float((given * cost).sum()),
        weight=float(weight.sum()),
        inliers=int((inlier & (given > 0)).sum()),
        pixels=int((given > 0).sum()),
    )


def _generator(twist: Tensor) -> Tensor:
    """The 4 x 4 matrix whose exponential is the motion by a twist (omega, v)."""
    x, y, z, u, v, w = twist.unbind()
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, u, z, o, -x, v, -y, x, o, w, o, o, o, o]).reshape(4, 4)
