"""A background that stands still while the object turns before it: no model can show both.

Seen from the object, such a background moves with the camera. Training explains it by fog in front
of every camera, which then stands before queries too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .camera import Camera
from .errors import InputError

_SAMPLE = 32  # views that are compared
_FEWEST = 8
_WINDOW = 1 / 16  # of the image's longer side: what is smoother than that is light, not texture
_STANDS = 1.5  # times its deviation over the views: the mean of a pixel's texture that stands still
_LEAST = 0.75 / 255  # deviation over the views, at least: that of rounding
_SHARE = 0.08  # of all pixels; where the camera moves, hardly any do
_TURNED = 10.0  # degrees between the farthest views, at least: else nothing has moved


def refuse_standing_background(cameras: Sequence[Camera], images: Sequence[Tensor]) -> None:
    """For images uint8 [3, H, W] without a plain background or transparency.

    Raises:
        InputError: much of the texture stands still in the image while the cameras move.
    """
    share = standing_share(cameras, images)
    if share > _SHARE:
        raise InputError(
            f"{share:.0%} of the image stands still in all train views while the poses move: the "
            "object was turned before a background that did not turn with it, which no model can "
            "show. Cut the object out, in train images and queries: transparent images, or masks "
            "(docs/formats.md), or a plain background."
        )


def standing_share(cameras: Sequence[Camera], images: Sequence[Tensor]) -> float:
    """Share of the pixels whose texture is the same in all views; 0 where nothing says."""
    size = images[0].shape if images else None
    chosen = [n for n, image in enumerate(images) if image.shape == size]
    chosen = chosen[:: max(1, len(chosen) // _SAMPLE)]
    if len(chosen) < _FEWEST or not _moves([cameras[number] for number in chosen]):
        return 0.0
    total = torch.zeros(images[0].shape[1:], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for number in chosen:
        texture = _texture(images[number]).double()
        total += texture
        squares += texture.square()
    mean = total / len(chosen)
    deviation = (squares / len(chosen) - mean.square()).clamp_min(0).sqrt().clamp_min(_LEAST)
    return float((mean.abs() > _STANDS * deviation).double().mean())


def _moves(cameras: Sequence[Camera]) -> bool:
    """Whether the views look from directions that differ."""
    axes = torch.stack([camera.world_to_camera[2, :3] for camera in cameras])
    angles = torch.rad2deg(torch.arccos((axes @ axes.T).clamp(-1, 1)))
    return bool(angles.max() > _TURNED)


def _texture(image: Tensor) -> Tensor:
    """Grey values less their mean within a window, [H, W]."""
    grey = image.float().mean(dim=0) / 255
    reach = max(1, round(_WINDOW * max(grey.shape) / 2))
    padded = torch.nn.functional.pad(grey[None, None], [reach] * 4, mode="replicate")
    mean = torch.nn.functional.avg_pool2d(padded, 2 * reach + 1, stride=1)[0, 0]
    return grey - mean
