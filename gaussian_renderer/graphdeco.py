"""Adapter to the CUDA rasteriser of 3DGS (submodules/diff-gaussian-rasterization, non-commercial).

The pinned version renders three channels, returns colours only, and takes its view and projection
as constants. So the pose acts here, in PyTorch: means and covariances are brought into the camera's
frame and the extension sees an identity view, which lets gradients reach the pose through the
3D Gaussians. Alpha and depth are rendered as channels (ones and camera z).

The extension ends each Gaussian at a square of 3 sigma, a little earlier where a tile begins, so
rims differ from the other backends (docs/gpu.md).
"""

import importlib
from types import ModuleType

import torch
from torch import Tensor

from scene import Camera, Gaussians
from scene.gaussians import rotation_matrices

from .backend import Backend, Outputs
from .spherical_harmonics import sh_colours

CHANNELS = 3  # compiled into the extension
_NEAR, _FAR = 0.01, 100.0  # of the projection only; culling happens at z = 0.2 in the extension
_UPPER = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])  # xx xy xz yy yz zz


def _extension() -> ModuleType:
    return importlib.import_module("diff_gaussian_rasterization")


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
    """See `gaussian_renderer.backend.Rasterise`; `threads` has no meaning on a GPU.

    `screen` must hold zeros: the extension gives its gradient but does not read its values.
    """
    points, covariances = in_camera_frame(gaussians, view)
    if colours is None:
        directions = torch.nn.functional.normalize(points @ view[:3, :3], dim=-1)
        colours = sh_colours(gaussians.sh, directions)
    extra = [torch.ones_like(points[:, :1])]
    if with_depth:
        extra.append(points[:, 2:])
    channels = torch.cat([colours, *extra], dim=1)  # [N, C + 1 (+ 1)]
    offsets = torch.cat([background, background.new_zeros(len(extra))])
    stacked, radii = _rasterise_channels(
        points, covariances, gaussians.opacities, channels, offsets, camera, screen
    )
    count = background.shape[0]
    return stacked[:count], stacked[count], stacked[count + 1] if with_depth else None, radii


def in_camera_frame(gaussians: Gaussians, view: Tensor) -> tuple[Tensor, Tensor]:
    """Means [N, 3] and upper triangles of the 3D covariances [N, 6] seen through `view` [4, 4]."""
    rotation, translation = view[:3, :3], view[:3, 3]
    points = gaussians.means @ rotation.T + translation
    axes = rotation @ (rotation_matrices(gaussians.rotations) * gaussians.scales[:, None, :])
    covariances = axes @ axes.transpose(1, 2)  # [N, 3, 3]
    return points, covariances[:, _UPPER[0], _UPPER[1]]


def projection_matrix(camera: Camera) -> Tensor:
    """Camera frame to homogeneous image coordinates, [4, 4] float64, column vectors.

    Pixel u in 0..width becomes 2 u / width - 1, so a principal point off the centre is kept.
    """
    width, height = camera.width, camera.height
    depth_scale = _FAR / (_FAR - _NEAR)
    return torch.tensor(
        [
            [2 * camera.fx / width, 0.0, 2 * camera.cx / width - 1, 0.0],
            [0.0, 2 * camera.fy / height, 2 * camera.cy / height - 1, 0.0],
            [0.0, 0.0, depth_scale, -depth_scale * _NEAR],
            [0.0, 0.0, 1.0, 0.0],
        ],
        dtype=torch.float64,
    )


def screen_to_ndc(screen: Tensor, camera: Camera) -> Tensor:
    """Offsets in pixels [N, 2] as the extension counts them: [N, 3], image size = 2 units.

    The extension's gradient is per unit of this; the chain rule turns it into one per pixel.
    """
    per_pixel = screen.new_tensor([2.0 / camera.width, 2.0 / camera.height])
    return torch.nn.functional.pad(screen * per_pixel, (0, 1))


def _settings(camera: Camera, background: Tensor) -> object:
    """Settings of one pass through an identity view; matrices are handed over transposed."""
    identity = torch.eye(4, dtype=background.dtype, device=background.device)
    return _extension().GaussianRasterizationSettings(
        image_height=camera.height,
        image_width=camera.width,
        tanfovx=0.5 * camera.width / camera.fx,
        tanfovy=0.5 * camera.height / camera.fy,
        bg=background,
        scale_modifier=1.0,
        viewmatrix=identity,
        projmatrix=projection_matrix(camera).T.contiguous().to(background),
        sh_degree=0,
        campos=background.new_zeros(3),
        prefiltered=False,
        debug=False,
    )


def _rasterise_channels(
    points: Tensor,  # [N, 3] camera frame
    covariances: Tensor,  # [N, 6]
    opacities: Tensor,  # [N]
    channels: Tensor,  # [N, F]
    background: Tensor,  # [F]
    camera: Camera,
    screen: Tensor,  # [N, 2]
) -> tuple[Tensor, Tensor]:
    """Any number of channels in passes of three: images [F, H, W] and radii [N].

    A pass whose channels the loss does not use costs no backward pass: autograd never reaches it.
    """
    count = channels.shape[1]
    if len(points) == 0:  # the extension would return zeros instead of the background
        image = background[:, None, None].expand(count, camera.height, camera.width)
        return image, torch.zeros(0, dtype=torch.int32, device=points.device)
    spare = -count % CHANNELS
    groups = torch.nn.functional.pad(channels, (0, spare)).split(CHANNELS, dim=1)
    backgrounds = torch.nn.functional.pad(background, (0, spare)).split(CHANNELS)
    offsets = screen_to_ndc(screen, camera)
    images, radii = [], screen.new_zeros(0)
    for group, behind in zip(groups, backgrounds, strict=True):
        rasteriser = _extension().GaussianRasterizer(_settings(camera, behind.contiguous()))
        image, radii = rasteriser(
            means3D=points.contiguous(),
            means2D=offsets,
            opacities=opacities[:, None].contiguous(),
            colors_precomp=group.contiguous(),
            cov3D_precomp=covariances.contiguous(),
        )
        images.append(image)
    return torch.cat(images)[:count], radii


BACKEND = Backend("graphdeco", rasterise)
