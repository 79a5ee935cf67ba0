"""The definition of every backend: EWA splatting in plain PyTorch, differentiated by autograd.

Projection follows Kerbl et al. 2023 and the EWA approximation of Zwicker et al. 2001. Tiles only
bound the memory; they do not change the result.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scene import Camera, Gaussians
from scene.gaussians import rotation_matrices
from scene.se3 import twist_exp

from .backend import Backend, Outputs
from .losses import photometric_loss_reference
from .optimiser import adam_reference
from .spherical_harmonics import sh_colours
from .variants import Variants

NEAR = 0.2  # world units; nearer Gaussians are not drawn
LOW_PASS = 0.3  # px^2 added to the diagonal of the 2D covariance
ALPHA_MAX = 0.99
ALPHA_MIN = 1.0 / 255.0
TRANSMITTANCE_MIN = 1e-4
FRUSTUM_MARGIN = 1.3  # x/z and y/z are held within this multiple of tan(fov / 2) in the Jacobian
TILE = 32
LARGEST = 1e18  # pixels, depths and colours beyond it are not drawn; its square fits in float32


@dataclass
class Projected:
    """Gaussians on the image plane, nearest first."""

    index: Tensor  # [M] rows of the input, sorted by depth
    means: Tensor  # [M, 2] pixels
    conics: Tensor  # [M, 3] a, b, c of q = a dx^2 + 2 b dx dy + c dy^2
    opacities: Tensor  # [M]
    depths: Tensor  # [M] camera z
    half_extents: Tensor  # [M, 2] pixels; outside, alpha < 1/255
    directions: Tensor  # [M, 3] unit viewing directions in the object's frame


def project(gaussians: Gaussians, camera: Camera, view: Tensor, screen: Tensor) -> Projected:
    """Projects the visible Gaussians and sorts them by depth; `view` is [4, 4], `screen` [N, 2]."""
    rotation, translation = view[:3, :3], view[:3, 3]
    points = gaussians.means @ rotation.T + translation  # [N, 3] camera frame
    z = points[:, 2]
    covariance = covariance_2d(gaussians, camera, rotation, points)
    a, b, c = covariance.unbind(-1)
    determinant = a * c - b * b
    opacities = gaussians.opacities
    means = torch.stack(
        [camera.fx * points[:, 0] / z + camera.cx, camera.fy * points[:, 1] / z + camera.cy], dim=-1
    )
    drawn = (z > NEAR) & (z <= LARGEST) & (determinant > 0) & (opacities >= ALPHA_MIN)
    drawn &= (means.abs() <= LARGEST).all(dim=1)
    index = drawn.nonzero().squeeze(1)
    index = index[torch.argsort(z[index].detach(), stable=True)]
    determinant = determinant[index]
    a, b, c, kept = a[index], b[index], c[index], opacities[index]
    reach = 2 * torch.log((kept / ALPHA_MIN).clamp_min(1.0))  # q at which alpha = 1/255
    return Projected(
        index=index,
        means=(means + screen)[index],
        conics=torch.stack([c, -b, a], dim=-1) / determinant[:, None],
        opacities=kept,
        depths=z[index],
        half_extents=torch.sqrt(reach[:, None] * torch.stack([a, c], dim=-1)).detach(),
        directions=torch.nn.functional.normalize(points[index] @ rotation, dim=-1),
    )


def covariance_2d(gaussians: Gaussians, camera: Camera, rotation: Tensor, points: Tensor) -> Tensor:
    """Upper triangle (xx, xy, yy) of the projected covariance with the low-pass filter.

    [..., N, 3] for `rotation` [..., 3, 3], of one view or several, and `points` [..., N, 3] there.
    """
    x, y, z = points.unbind(-1)
    z = torch.where(z > NEAR, z, torch.ones_like(z))  # the others are dropped by the caller
    limit_x = FRUSTUM_MARGIN * 0.5 * camera.width / camera.fx
    limit_y = FRUSTUM_MARGIN * 0.5 * camera.height / camera.fy
    tx = (x / z).clamp(-limit_x, limit_x)
    ty = (y / z).clamp(-limit_y, limit_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [camera.fx / z, zero, -camera.fx * tx / z, zero, camera.fy / z, -camera.fy * ty / z], -1
    ).unflatten(-1, (2, 3))
    if rotation.dim() > 2:
        rotation = rotation[..., None, :, :]
    axes = rotation_matrices(gaussians.rotations) * gaussians.scales[:, None, :]  # [N, 3, 3]
    half = jacobian @ rotation @ axes  # [..., N, 2, 3]
    covariance = half @ half.mT
    xx, xy, yy = (covariance[..., i, j] for i, j in ((0, 0), (0, 1), (1, 1)))
    return torch.stack([xx + LOW_PASS, xy, yy + LOW_PASS], -1)


def _blend_tile(
    projected: Projected, channels: Tensor, touching: Tensor, xs: Tensor, ys: Tensor
) -> tuple[Tensor, Tensor]:
    """Front-to-back blending of one tile: channels [h * w, F] and alpha [h * w]."""
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1).reshape(-1, 1, 2)
    d = projected.means[touching] - grid  # [P, G, 2]
    a, b, c = projected.conics[touching].unbind(-1)
    q = a * d[..., 0] ** 2 + 2 * b * d[..., 0] * d[..., 1] + c * d[..., 1] ** 2
    alpha = (projected.opacities[touching] * torch.exp(-0.5 * q)).clamp_max(ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    weights = torch.where(after >= TRANSMITTANCE_MIN, alpha * before, torch.zeros_like(alpha))
    return weights @ channels[touching], weights.sum(dim=1)


def rasterise(
    gaussians: Gaussians,
    camera: Camera,
    view: Tensor,
    background: Tensor,
    colours: Tensor | None,
    with_depth: bool,
    screen: Tensor,
    threads: int,
) -> Outputs:
    """See `gaussian_renderer.backend.Rasterise`; `threads` is left to PyTorch.

    Gaussians with a number that is not finite are left out before anything is computed, so that
    their gradients are 0 and not 0 times infinity.
    """
    usable = _usable_rows(gaussians, colours, screen)
    if usable is not None:
        image, alpha, depth, shown = rasterise(
            gaussians.map(lambda t: t[usable]), camera, view, background,
            None if colours is None else colours[usable], with_depth, screen[usable], threads,
        )  # fmt: skip
        return image, alpha, depth, shown.new_zeros(len(gaussians)).index_put((usable,), shown)
    projected = project(gaussians, camera, view, screen)
    if colours is None:
        channels = sh_colours(gaussians.sh[projected.index], projected.directions)
    else:
        channels = colours[projected.index]
    if with_depth:
        channels = torch.cat([channels, projected.depths[:, None]], dim=1)
    rows = []
    for top in range(0, camera.height, TILE):
        tiles = [
            _tile(projected, channels, camera, left, top) for left in range(0, camera.width, TILE)
        ]
        rows.append(torch.cat(tiles, dim=2))
    stacked = torch.cat(rows, dim=1)  # [F + 1, H, W]
    alpha = stacked[-1]
    image = stacked[: background.shape[0]] + (1 - alpha) * background[:, None, None]
    radii = _radii(projected, camera, len(gaussians))
    return image, alpha, stacked[-2] if with_depth else None, radii


def _usable_rows(gaussians: Gaussians, colours: Tensor | None, screen: Tensor) -> Tensor | None:
    """Rows of the Gaussians whose numbers are all usable, [M]; None where all are, as is usual."""
    tensors = gaussians.named_tensors() | {"screen": screen}
    if colours is not None:
        tensors["sh"] = colours
    finite = [t.detach()[:, None].flatten(1).isfinite().all(dim=1) for t in tensors.values()]
    usable = torch.stack(finite).all(dim=0)
    return None if bool(usable.all()) else usable.nonzero().squeeze(1)


def _tile(projected: Projected, channels: Tensor, camera: Camera, left: int, top: int) -> Tensor:
    """Channels and alpha of one tile, [F + 1, h, w]."""
    width, height = min(TILE, camera.width - left), min(TILE, camera.height - top)
    low = projected.means.detach() - projected.half_extents
    high = projected.means.detach() + projected.half_extents
    touching = (
        (high[:, 0] >= left) & (low[:, 0] <= left + width)
        & (high[:, 1] >= top) & (low[:, 1] <= top + height)
    ).nonzero().squeeze(1)  # fmt: skip
    xs = torch.arange(width, dtype=channels.dtype, device=channels.device) + (left + 0.5)
    ys = torch.arange(height, dtype=channels.dtype, device=channels.device) + (top + 0.5)
    blended, alpha = _blend_tile(projected, channels, touching, xs, ys)
    return torch.cat([blended, alpha[:, None]], dim=1).T.reshape(-1, height, width)


def _radii(projected: Projected, camera: Camera, count: int) -> Tensor:
    """Half the longer side of each Gaussian's rectangle, [N] int32 px; 0 beside the image."""
    radii = torch.zeros(count, dtype=torch.int32, device=projected.means.device)
    longest = projected.half_extents.max(dim=1).values.ceil().to(torch.int32).clamp_min(1)
    size = projected.means.new_tensor([camera.width, camera.height])
    low = projected.means.detach() - projected.half_extents
    high = projected.means.detach() + projected.half_extents
    on_image = ((high >= 0) & (low <= size)).all(dim=1)
    return radii.index_put((projected.index,), longest * on_image)


def pose_rows(
    gaussians: Gaussians,
    camera: Camera,
    views: Tensor,  # [K, 4, 4]
    targets: Tensor,  # [B, 3, H, W]
    background: Tensor,  # [3]
    huber: float,
    *,
    owners: Tensor,  # [K]
    variants: Variants | None = None,
    weights: Tensor | None = None,  # [B, H, W]
    threads: int = 1,
) -> Tensor:
    """See `gaussian_renderer.backend.PoseRows`; by forward-mode autograd, one after the other."""
    rows = []
    for view, owner in zip(views, owners.tolist(), strict=True):
        cloud = gaussians if variants is None else variants.gaussians_of(owner)
        image, jacobian = pixel_jacobian(cloud, camera, view, background)
        given = torch.ones_like(image[0]) if weights is None else weights[owner].to(image)
        rows.append(_sums(image - targets[owner].to(image), jacobian, huber, given))
    return torch.stack(rows)


def pixel_jacobian(
    gaussians: Gaussians, camera: Camera, view: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """The rendering [3, H, W] and its derivatives [6, 3, H, W] by the twist of exp(twist) view."""
    gaussians = gaussians.detach()
    view, background = view.to(gaussians.means), background.detach().to(gaussians.means)
    screen = torch.zeros_like(gaussians.means[:, :2])

    def rendering(twist: Tensor) -> Tensor:
        return rasterise(
            gaussians, camera, twist_exp(twist) @ view, background, None, False, screen, 1
        )[0]  # fmt: skip

    zero = torch.zeros(6, dtype=view.dtype, device=view.device)
    directions = torch.eye(6, dtype=view.dtype, device=view.device)
    columns = [torch.func.jvp(rendering, (zero,), (d,))[1] for d in directions]
    return rendering(zero), torch.stack(columns)


def _sums(residual: Tensor, jacobian: Tensor, huber: float, given: Tensor) -> Tensor:
    """The 46 sums of residuals [3, H, W], derivatives [6, 3, H, W] and weights [H, W]."""
    residual, jacobian, given = residual.double(), jacobian.double(), given.double()
    norm = residual.square().sum(dim=0).sqrt()
    inlier = norm <= huber
    weight = given * torch.where(inlier, 1.0, huber / norm.clamp_min(1e-20))
    cost = torch.where(inlier, 0.5 * norm.square(), huber * (norm - 0.5 * huber))
    weighted = (jacobian * weight).flatten(1)
    jtj, jtr = weighted @ jacobian.flatten(1).T, weighted @ residual.flatten()
    counted = given > 0
    sums = [(given * cost).sum(), weight.sum(), (inlier & counted).sum(), counted.sum()]
    return torch.cat([jtj.flatten(), jtr, torch.stack([each.double() for each in sums])])


BACKEND = Backend(
    "reference",
    rasterise,
    pose_rows=pose_rows,
    photometric_loss=photometric_loss_reference,
    adam=adam_reference,
)
