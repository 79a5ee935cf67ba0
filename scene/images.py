"""Images from files, and where the object is in them: colours, silhouettes, masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .capture import Capture, Colour, View
from .decode import check_aspect, colours_of, read_header, read_pixels
from .distortion import Distortion
from .masks import defect_share
from .query_lens import QueryLens

BLACK: Colour = (0.0, 0.0, 0.0)
WHITE: Colour = (1.0, 1.0, 1.0)

_SAME_COLOUR = 8 / 255  # what differs less from the background is background


@dataclass(frozen=True)
class TrainImages:
    """The images of some views, each decoded once and kept as bytes: a quarter of the floats."""

    colours: list[Tensor]  # uint8 [3, H, W] each
    silhouettes: list[Tensor] | None  # bool [H, W] each; None without a plain background
    alphas: list[Tensor | None] | None = None  # uint8 [H, W]; None: opaque; None as a whole: all

    def floats(self, device: torch.device | str = "cpu") -> list[Tensor]:
        """The colours as the renderer compares them, float32 [3, H, W] in 0..1 each."""
        return [colours.to(device).float().div_(255) for colours in self.colours]


def read_train_images(capture: Capture, views: Sequence[View]) -> TrainImages:
    """Decodes the images of the views, at the size of their cameras.

    Transparent ones are composited on the capture's background, black where it has none. The
    silhouette is the alpha channel above one half where there is one, else `silhouette` of the
    bytes.

    Raises:
        InputError: as `read_image`.
    """
    behind = capture.background or BLACK
    colours, silhouettes = [], []
    alphas: list[Tensor | None] = []
    for view in views:
        size = (view.camera.width, view.camera.height)
        channels = _load(view.image_path, size, capture.white)
        if view.mask_path is not None:
            channels = _masked(channels, view.mask_path)
        if view.lens is not None:
            channels = view.lens.undone(channels, size)
        alpha = _resample(channels[3:], size)[0] if len(channels) == 4 else None
        image = torch.from_numpy(_resample(_composited(channels, behind), size))
        colours.append(image.mul_(255).round_().to(torch.uint8))
        alphas.append(None if alpha is None else torch.from_numpy((alpha * 255).round()).byte())
        if capture.background is None:
            continue
        if alpha is None:
            silhouettes.append(silhouette(colours[-1].float().div_(255), capture.background))
        else:
            silhouettes.append(torch.from_numpy(alpha > 0.5))
    return TrainImages(
        colours,
        None if capture.background is None else silhouettes,
        alphas if any(alpha is not None for alpha in alphas) else None,
    )


def read_image(
    path: str | Path,
    size: tuple[int, int] | None = None,  # (width, height), pixels; None keeps the file's size
    background: Colour = WHITE,
    white: float | None = None,  # `Capture.white` of the capture that the image is compared with
    lens: Distortion | QueryLens | None = None,  # to be undone
    orientation: int = 1,  # EXIF's, by which the stored pixels are turned
) -> Tensor:
    """Colours of an image file in sRGB, [3, H, W] float32 in 0..1.

    Transparent images are composited on `background`; grey, palette and 16-bit images are
    converted, and so are other colour profiles. Shrinking averages over pixel areas, so that
    nothing aliases.

    Raises:
        InputError: the file is missing, unreadable, truncated, too large, of an unsupported kind,
            or of another aspect ratio than `size`.
    """
    return read_with_alpha(path, size, background, white, lens, orientation)[0]


def read_with_alpha(
    path: str | Path,
    size: tuple[int, int] | None = None,
    background: Colour = WHITE,
    white: float | None = None,
    lens: Distortion | QueryLens | None = None,
    orientation: int = 1,
    mask_path: Path | None = None,  # where the object is, if a file of its own says so
) -> tuple[Tensor, Tensor | None]:
    """`read_image`, and how much of each pixel is opaque, [H, W] in 0..1; None: all of it.

    A mask of the size that viewers show, or of the stored one, is taken for transparency.
    """
    across = size[::-1] if size is not None and orientation >= 5 else size
    if isinstance(lens, QueryLens):  # which may be of another aspect than `size`
        across = None
    channels = _turned(_load(Path(path), across, white), orientation)
    if isinstance(lens, QueryLens):
        lens.check((channels.shape[2], channels.shape[1]), Path(path))
    if mask_path is not None:
        channels = _masked(channels, mask_path, orientation)
    if lens is not None:
        channels = lens.undone(channels, size)
    alpha = torch.from_numpy(_resample(channels[3:], size)[0]) if len(channels) == 4 else None
    return torch.from_numpy(_resample(_composited(channels, background), size)), alpha


def read_mask(
    path: str | Path,
    size: tuple[int, int] | None = None,
    lens: Distortion | QueryLens | None = None,
) -> Tensor:
    """A ground-truth mask, [H, W] bool: true where more than half of a pixel is defect.

    What the values of a file mean: `scene.masks.defect_share`.

    Raises:
        InputError: as `read_image`.
    """
    return read_share(path, size, lens) > 0.5


def read_share(
    path: str | Path,
    size: tuple[int, int] | None = None,
    lens: Distortion | QueryLens | None = None,
    orientation: int = 1,
) -> Tensor:
    """How much of each pixel a mask in a file marks, [H, W] in 0..1.

    Raises:
        InputError: as `read_image`.
    """
    wanted = lens.size if isinstance(lens, QueryLens) else size
    share = _upright_share(Path(path), wanted, orientation)
    if wanted is not None:
        check_aspect((share.shape[1], share.shape[0]), wanted, Path(path))
    channels = share[None] if lens is None else lens.undone(share[None], size)
    return torch.from_numpy(_resample(channels, size)[0])


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) from the file's header, pixels.

    Raises:
        InputError: the file is missing or not an image.
    """
    return read_header(Path(path)).size


def silhouette(
    image: Tensor,  # [..., 3, H, W]
    background: Colour | Tensor,  # [3]
    keep_specks: bool = False,
) -> Tensor:
    """What differs from the background by more than 8/255 in any channel, [..., H, W] bool.

    Specks are left out unless they are to be kept: pixels with fewer than two such neighbours among
    eight. Sensor noise makes them all over the image, and their extent would be taken for that of
    the object.
    """
    plain = torch.as_tensor(background, dtype=image.dtype).view(3, 1, 1)
    plain = plain.to(image.device, non_blocking=True)
    differs = ((image - plain).abs() > _SAME_COLOUR).any(dim=-3)
    if keep_specks:
        return differs
    planes = differs.float().reshape(-1, *differs.shape[-2:])
    share = torch.nn.functional.avg_pool2d(planes, 3, stride=1, padding=1)
    return differs & (share.reshape(differs.shape) > 2.5 / 9.0)


def _load(path: Path, size: tuple[int, int] | None, white: float | None) -> NDArray[np.float32]:
    """[3 or 4, H, W] in 0..1, with alpha where the image is transparent; not yet of `size`."""
    return colours_of(read_pixels(path, size, must_fit=True), path, white)


def _turned(channels: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """Channels [C, H, W] as viewers show them."""
    if orientation >= 5:
        channels = channels.swapaxes(1, 2)
    if orientation in (2, 3, 6, 7):
        channels = channels[:, :, ::-1]
    if orientation in (3, 4, 7, 8):
        channels = channels[:, ::-1]
    return np.ascontiguousarray(channels)


def _masked(channels: NDArray[np.float32], path: Path, orientation: int = 1) -> NDArray[np.float32]:
    """[4, H, W]: an image [3 or 4, H, W] that is transparent where the mask in a file is dark."""
    size = (channels.shape[2], channels.shape[1])
    share = _upright_share(path, size, orientation)
    check_aspect((share.shape[1], share.shape[0]), size, path)
    alpha = _resample(share[None], size)
    if len(channels) == 4:
        alpha = alpha * channels[3:]
    return np.concatenate([channels[:3], alpha])


def _upright_share(
    path: Path, size: tuple[int, int] | None, orientation: int
) -> NDArray[np.float32]:
    """A mask [h, w] in 0..1, turned as its image (width, height) is where its shape says so."""
    share = defect_share(path)
    if size is None or orientation < 5:
        return share
    lies = (share.shape[0] > share.shape[1]) != (size[1] > size[0])
    return _turned(share[None], orientation)[0] if lies else share


def _composited(channels: NDArray[np.float32], background: Colour) -> NDArray[np.float32]:
    """The three colours of [3 or 4, H, W], in place, on the background where there is alpha."""
    colours = channels[:3]
    if len(channels) == 4:
        for channel, behind in zip(colours, background, strict=True):
            channel -= behind
            channel *= channels[3]
            channel += behind
    return colours


def _resample(
    channels: NDArray[np.float32],  # [C, H, W]
    size: tuple[int, int] | None,
) -> NDArray[np.float32]:
    height, width = channels.shape[1:]
    if size is None or size == (width, height):
        return channels
    import cv2  # 0.3 s to import, and most images need no resampling

    shrinks = size[0] <= width and size[1] <= height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = [cv2.resize(channel, size, interpolation=method) for channel in channels]
    return np.stack(resized).astype(np.float32, copy=False)
