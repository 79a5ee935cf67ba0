"""Images from files, and where the object is in them: colours, silhouettes, masks, background."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .capture import Capture, Colour, View
from .errors import InputError

BLACK: Colour = (0.0, 0.0, 0.0)
WHITE: Colour = (1.0, 1.0, 1.0)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

_SAME_COLOUR = 8 / 255  # what differs less from the background is background
_SAMPLE = 12  # images whose borders tell the background
_PLAIN = 6 / 255  # from the median colour of the borders, in a plain background
_MAJORITY = 0.6  # of the border pixels, that must be so near
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
_DAMAGED = (OSError, SyntaxError, ValueError)  # what Pillow raises, depending on the decoder
_UNSUPPORTED_MODES = ("I", "F")  # no stated range, so no honest conversion to 0..1


@dataclass(frozen=True)
class TrainImages:
    """The images of some views, each decoded once and kept as bytes: a quarter of the floats."""

    colours: list[Tensor]  # uint8 [3, H, W] each
    silhouettes: list[Tensor] | None  # bool [H, W] each; None without a plain background

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
    for view in views:
        size = (view.camera.width, view.camera.height)
        channels = _load(view.image_path)
        opaque = len(channels) == 3 or channels[3].min() == 1.0
        alpha = None if opaque else _resample(channels[3:], size, view.image_path)[0]
        image = torch.from_numpy(_resample(_composited(channels, behind), size, view.image_path))
        colours.append(image.mul_(255).round_().to(torch.uint8))
        if capture.background is None:
            continue
        if alpha is None:
            silhouettes.append(silhouette(colours[-1].float().div_(255), capture.background))
        else:
            silhouettes.append(torch.from_numpy(alpha > 0.5))
    return TrainImages(colours, None if capture.background is None else silhouettes)


def read_image(
    path: str | Path,
    size: tuple[int, int] | None = None,  # (width, height), pixels; None keeps the file's size
    background: Colour = WHITE,
) -> Tensor:
    """Colours of an image file, [3, H, W] float32 in 0..1.

    Transparent images are composited on `background`; grey, palette and 16-bit grey images are
    converted. Shrinking averages over pixel areas, so that nothing aliases.

    Raises:
        InputError: the file is missing, unreadable, truncated, of an unsupported kind, or of
            another aspect ratio than `size`.
    """
    return torch.from_numpy(_resample(_composited(_load(Path(path)), background), size, Path(path)))


def read_mask(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """A ground-truth mask, [H, W] bool: true where the file is brighter than half.

    Raises:
        InputError: as `read_image`.
    """
    brightness = _load(Path(path))[:3].max(axis=0, keepdims=True)
    return torch.from_numpy(_resample(brightness, size, Path(path))[0] > 0.5)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) from the file's header, pixels.

    Raises:
        InputError: the file is missing or not an image.
    """
    with _opened(Path(path)) as image:
        return image.size


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


def detect_background(paths: Sequence[Path]) -> Colour | None:
    """The one colour behind the object, or None when there is no such colour.

    Transparent images stand on white by definition. For opaque ones, the median colour of the
    border pixels of twelve evenly chosen images counts as the background when at least 60 % of all
    these pixels lie within 6/255 of it in every channel.

    Raises:
        InputError: as `read_image`.
    """
    chosen = sorted({round(i) for i in np.linspace(0, len(paths) - 1, min(_SAMPLE, len(paths)))})
    borders = []
    for path in (paths[i] for i in chosen):
        channels = _load(path)
        if len(channels) == 4 and channels[3].min() < 1.0:
            return WHITE
        rgb = channels[:3]
        borders += [rgb[:, 0], rgb[:, -1], rgb[:, 1:-1, 0], rgb[:, 1:-1, -1]]
    pixels = np.concatenate(borders, axis=1).T  # [P, 3]
    plain = np.median(pixels, axis=0)
    near = (np.abs(pixels - plain) <= _PLAIN).all(axis=1)
    if near.mean() < _MAJORITY:
        return None
    red, green, blue = (float(c) for c in np.median(pixels[near], axis=0))
    return red, green, blue


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise InputError(f"There is no image {path}: restore it or remove its entry.") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that can be read: replace the file.") from None
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise InputError(f"Cannot open the image {path} ({error}): replace the file.") from error


def _load(path: Path) -> NDArray[np.float32]:
    """Decodes the whole file: [3 or 4, H, W] in 0..1, with alpha when it can be transparent."""
    with _opened(path) as image:
        if image.mode in _UNSUPPORTED_MODES:
            raise InputError(
                f"{path} holds {image.mode!r} pixels (32 bits each): save it with 8 or 16 bits."
            )
        try:
            image.load()
            if image.mode in _SIXTEEN_BIT_MODES:
                pixels, highest = np.repeat(np.asarray(image)[..., None], 3, axis=2), 65535
            else:
                mode = "RGBA" if image.has_transparency_data else "RGB"
                pixels, highest = np.asarray(image.convert(mode)), 255
        except _DAMAGED as error:
            raise InputError(
                f"The image {path} is truncated or damaged ({error}): replace the file."
            ) from error
    channels = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    channels /= highest
    return channels


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
    path: Path,
) -> NDArray[np.float32]:
    height, width = channels.shape[1:]
    if size is None or size == (width, height):
        return channels
    _check_aspect((width, height), size, path)
    import cv2  # 0.3 s to import, and most images need no resampling

    shrinks = size[0] <= width and size[1] <= height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = [cv2.resize(channel, size, interpolation=method) for channel in channels]
    return np.stack(resized).astype(np.float32, copy=False)


def _check_aspect(found: tuple[int, int], wanted: tuple[int, int], path: Path) -> None:
    """One pixel of rounding is allowed, in the coarser of the two images."""
    scale = wanted[0] / found[0]
    if abs(found[1] * scale - wanted[1]) > max(1.0, scale):
        raise InputError(
            f"{path} is {found[0]} x {found[1]} pixels, which does not fit the camera's "
            f"{wanted[0]} x {wanted[1]}: give an image of the same aspect ratio."
        )
