"""Image files, decoded: which kinds are opened, how large they may be, what their values mean.

No other module opens an image file of a user. Whatever a decoder raises, and whatever its type,
becomes an InputError that names the file.
"""

import functools
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from .errors import InputError

# Formats whose decoders start no other program (EPS would start Ghostscript) and read no other
# file. That of phones with several images in one (MPO) is read as JPEG.
_FORMATS = (
    "PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "AVIF", "JPEG2000", "TGA",
)  # fmt: skip
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jpe", ".jfif", ".apng", ".mpo",
    ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".tga",
)  # fmt: skip
MAX_PIXELS = 178_956_970  # 13,377 x 13,377; Pillow refuses larger ones itself
_LARGE = 16_000_000  # pixels; larger images are reduced before they become floats
_MAX_SIDE = 1_000_000
_KEPT_DETAIL = 2  # times the wanted size, to which large images are reduced in 8 bits
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N")
_NO_STATED_RANGE = ("I", "F")  # 32 bits: only the whole capture tells what white is
_DARK = 4096  # a 16-bit image whose values stay below uses a sixteenth of the range: 12 bits
_TURNED_BY_VIEWERS = ("JPEG", "MPO", "PNG", "WEBP")  # Pillow turns TIFF and AVIF itself
_TRANSPARENT_SHARE = 0.01  # of an image, that must be mostly transparent
_OPAQUE_SHARE = 0.0002  # and mostly opaque
_ROUNDING = 2.0  # pixels, by which an aspect ratio may be off
_FILM = 43.27  # mm, the diagonal of what FocalLengthIn35mmFilm refers to
_SRGB_GAMMA = 0.45455
_SAME_COLOUR = 2  # of 255: a profile that changes colours by less is that of sRGB
_log = logging.getLogger(__name__)

# Pillow warns on stderr of large and of damaged images; what it can read is good enough.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Header:
    """What a file says before it is decoded."""

    size: tuple[int, int]  # width, height, pixels as stored
    orientation: int = 1  # EXIF: 1 is upright; 5 to 8 exchange width and height

    @property
    def turned_size(self) -> tuple[int, int]:
        """(width, height) as viewers show it."""
        return self.size[::-1] if self.orientation >= 5 else self.size


@dataclass(frozen=True)
class Pixels:
    """The values of a file as they are stored."""

    values: NDArray[Any]  # [H, W, C] uint8, uint16 or float32; C is 1, 3, or 4 with alpha last
    white: float | None  # the value that means 1 by the file's kind; None: the file does not say


def read_header(path: Path) -> Header:
    """Size and orientation.

    Raises:
        InputError: the file is missing, not an image of a known kind, or too large.
    """
    with _opened(path) as image:
        orientation = 1
        if image.format in _TURNED_BY_VIEWERS and "exif" in image.info:
            found = image.getexif().get(0x0112, 1)
            orientation = found if isinstance(found, int) and 1 <= found <= 8 else 1
        return Header(image.size, orientation)


def exif_focal(path: Path) -> float | None:
    """Focal length by EXIF, in diagonals of the image; None where it says none.

    Raises:
        InputError: as `read_header`.
    """
    with _opened(path) as image:
        if "exif" not in image.info:
            return None
        found = image.getexif().get_ifd(0x8769).get(0xA405)  # FocalLengthIn35mmFilm
    return found / _FILM if isinstance(found, int | float) and found > 0 else None


def read_pixels(
    path: Path, wanted: tuple[int, int] | None = None, must_fit: bool = False
) -> Pixels:
    """Decodes the whole file, in the colours of sRGB.

    `wanted` (width, height) lets images above 16 megapixels be reduced on the way, to not less than
    twice that size; with `must_fit`, an image of another aspect ratio is not even decoded.

    Raises:
        InputError: the file is missing, not an image of a known kind, too large, truncated, of
            another aspect ratio, or holds several images.
    """
    with _opened(path) as image:
        if wanted is not None and must_fit:
            check_aspect(image.size, wanted, path)
        _refuse_pages(image, path)
        target = None
        if wanted is not None and image.width * image.height > _LARGE:
            target = tuple(
                min(s, _KEPT_DETAIL * w) for s, w in zip(image.size, wanted, strict=True)
            )
            image.draft(image.mode, (8 * wanted[0], 8 * wanted[1]))  # JPEG alone: by 2, 4 or 8
        deep = _deep_colours(image, path)
        image.load()
        if deep is not None:
            return Pixels(_reduced(deep, target), 65535.0)
        if image.mode in _SIXTEEN_BIT_MODES or (image.mode == "I" and image.format == "PPM"):
            grey: NDArray[Any] = np.asarray(image).astype(np.uint16)
            return Pixels(_reduced(grey[..., None], target), 65535.0)
        if image.mode in _NO_STATED_RANGE:
            grey = np.asarray(image).astype(np.float32)
            return Pixels(_reduced(grey[..., None], target), None)
        return Pixels(_eight_bits(image, target), 255.0)


def raw_values(path: Path) -> tuple[NDArray[Any], bool]:
    """One stored value a pixel [H, W], for masks, and whether the file is of a lossy kind.

    Colours give their brightest channel, on black where they are transparent. Where that is the
    same everywhere, the mask lies in alpha, in the numbers of the palette, or in other colours than
    the commonest.

    Raises:
        InputError: as `read_pixels`.
    """
    with _opened(path) as image:
        _refuse_pages(image, path)
        deep = _deep_colours(image, path)
        image.load()
        is_lossy = image.format in ("JPEG", "MPO")
        numbers = np.asarray(image) if image.mode == "P" else None
        if image.mode in (*_SIXTEEN_BIT_MODES, *_NO_STATED_RANGE):
            values = np.asarray(image)[..., None]
        elif deep is not None:
            values = deep
        else:
            values = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds infinite or NaN values: save it with 8 bits.")
    brightest = values[..., :3].max(axis=2)
    painted = brightest
    if values.shape[2] == 4 and not _is_constant(values[..., 3]):
        is_seen = values[..., 3] > 0
        painted = np.where(is_seen, brightest, 0)
        if _is_constant(brightest[is_seen]):  # one paint: how much of it
            return values[..., 3], is_lossy
    if not _is_constant(painted):
        return painted, is_lossy
    if numbers is not None:
        return numbers, is_lossy
    if values.shape[2] == 1 or _is_constant(values.reshape(-1, values.shape[2])[:, :3], axis=0):
        return painted, is_lossy
    colours, counts = np.unique(values[..., :3].reshape(-1, 3), axis=0, return_counts=True)
    differs = (values[..., :3] != colours[counts.argmax()]).any(axis=2)
    return differs.astype(np.uint8), is_lossy


def _is_constant(values: NDArray[Any], axis: int | None = None) -> bool:
    return bool((values.min(axis=axis) == values.max(axis=axis)).all())


def colours_of(pixels: Pixels, path: Path, white: float | None = None) -> NDArray[np.float32]:
    """[3 or 4, H, W] in 0..1, with alpha where the image is transparent.

    `white` is the value that means 1 in the files of more than 8 bits of a capture, where that is
    not the highest that they can hold.

    Raises:
        InputError: the values do not fit `white`, or nothing says what white is.
    """
    values, highest = pixels.values, pixels.white
    if highest != 255.0:
        highest = _white_of(pixels, path, white)
    channels = np.ascontiguousarray(values.transpose(2, 0, 1)).astype(np.float32)
    channels /= highest
    if len(channels) == 4:
        if highest not in (255.0, 65535.0):
            channels[3] *= highest / (pixels.white or highest)  # alpha has the full range
        return channels if is_transparency(channels[3]) else channels[:3]
    return channels if len(channels) == 3 else np.repeat(channels, 3, axis=0)


def is_transparency(alpha: NDArray[np.float32]) -> bool:
    """Whether an alpha channel [H, W] cuts something out.

    Some pixels must be mostly opaque and at least 1 % mostly transparent: a few odd values, or one
    value all over, are what programs leave behind that know of no transparency.
    """
    clear = float((alpha < 0.5).mean())
    return _TRANSPARENT_SHARE <= clear <= 1.0 - _OPAQUE_SHARE


def fits(found: tuple[int, int], wanted: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have one aspect ratio.

    Two pixels of rounding are allowed, in the coarser: sizes are often made even, or rounded twice.
    """
    scale = wanted[0] / found[0]
    return abs(found[1] * scale - wanted[1]) <= _ROUNDING * max(1.0, scale)


def check_aspect(found: tuple[int, int], wanted: tuple[int, int], path: Path) -> None:
    """Refuses an image of another aspect ratio.

    Raises:
        InputError: the sizes (width, height) have different aspect ratios.
    """
    if not fits(found, wanted):
        raise InputError(
            f"{path} is {found[0]} x {found[1]} pixels, which does not fit the camera's "
            f"{wanted[0]} x {wanted[1]}: give an image of the same aspect ratio."
        )


def _white_of(pixels: Pixels, path: Path, white: float | None) -> float:
    colours = pixels.values[..., :3]
    top = float(colours.max())
    if not np.isfinite(top) or not np.isfinite(float(colours.min())) or colours.min() < 0:
        raise InputError(f"{path} holds negative, infinite or NaN values: save it with 8 bits.")
    if white is not None and top > white:
        raise InputError(
            f"{path} holds values up to {top:g}, where the images of the capture reach {white:g} "
            "at most: save it as the others were saved."
        )
    if white is not None:
        return white
    if pixels.white is None:
        raise InputError(
            f"{path} holds 32 bits a pixel and the capture does not say what white is: save it "
            "with 8 or 16 bits."
        )
    if top < _DARK:
        raise InputError(
            f"{path} holds values up to {top:g} only, of {pixels.white:g} that its 16 bits can "
            "hold: scale them to the full range, as in the other images."
        )
    return pixels.white


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file opened as an image of an allowed kind; whatever is raised names it."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS or max(image.size) > _MAX_SIDE:
                raise InputError(
                    f"{path} has {image.width} x {image.height} pixels, more than the "
                    f"{MAX_PIXELS:,} that are read: reduce it."
                )
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"There is no image {path}: restore it or remove its entry.") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is not an image that can be read: save it as PNG or JPEG."
        ) from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path} has more than the {MAX_PIXELS:,} pixels that are read: reduce it."
        ) from None
    except Exception as error:  # decoders of damaged files raise whatever they come upon
        if isinstance(error, OSError) and error.strerror is not None:
            raise InputError(
                f"Cannot open the image {path} ({error.strerror}): replace the file."
            ) from error
        reason = str(error) or type(error).__name__
        raise InputError(
            f"The image {path} is truncated or damaged ({reason}): replace the file."
        ) from error


def _refuse_pages(image: Image.Image, path: Path) -> None:
    """Refuses animations and several pages: all but the first would go unseen.

    Smaller further pages are previews, and so are those of phones (MPO).
    """
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return
    size = image.size
    image.seek(1)
    further = image.size
    image.seek(0)
    if further == size:
        raise InputError(f"{path} holds several images: save each as a file of its own.")


def _deep_colours(image: Image.Image, path: Path) -> NDArray[Any] | None:
    """[H, W, 3 or 4] of a file with 16 bits a colour, of which Pillow would keep 8; else None."""
    if image.mode not in ("RGB", "RGBA", "LA") or image.format not in ("PNG", "TIFF"):
        return None
    if (
        not any(";16" in str(tile) for tile in getattr(image, "tile", ()))
        or "icc_profile" in image.info
    ):
        return None
    import cv2  # 0.3 s to import

    content = np.frombuffer(path.read_bytes(), np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        return None
    order = [2, 1, 0, 3][: values.shape[2]]
    return values[..., order]


def _reduced(values: NDArray[Any], target: tuple[int, ...] | None) -> NDArray[Any]:
    """[H, W, C] averaged over areas to (width, height); unchanged without a target."""
    if target is None:
        return values
    import cv2

    small = cv2.resize(values, target, interpolation=cv2.INTER_AREA)
    return small.reshape(target[1], target[0], values.shape[2])


def _eight_bits(image: Image.Image, target: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """[H, W, 3 or 4], in sRGB, averaged over areas to (width, height) `target` if there is one."""
    mode = "RGBA" if image.has_transparency_data else "RGB"
    if target is not None:
        if image.mode not in ("L", "RGB", "RGBA", "CMYK"):
            image = image.convert(mode)
        small = image.resize((target[0], target[1]), Image.Resampling.BOX)
        small.info = image.info
        image = small
    profile, gamma = image.info.get("icc_profile"), image.info.get("gamma")
    converted = image.convert(mode) if profile is None else _by_profile(image, mode, profile)
    values = np.asarray(converted)
    if profile is None and gamma and "srgb" not in image.info:
        values = _by_gamma(values, float(gamma))
    return values


def _by_gamma(values: NDArray[np.uint8], gamma: float) -> NDArray[np.uint8]:
    """Values of a PNG whose gAMA chunk says that they are not encoded as those of sRGB are."""
    if not 0.1 < gamma < 10 or abs(gamma - _SRGB_GAMMA) < 0.05:
        return values
    light = (np.arange(256) / 255.0) ** (1.0 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = np.round(255 * encoded).astype(np.uint8)
    changed = values.copy()
    changed[..., :3] = table[values[..., :3]]
    return changed


def _by_profile(image: Image.Image, mode: str, profile: bytes) -> Image.Image:
    """The image in sRGB, by the profile that it carries."""
    source = image if image.mode in ("L", "CMYK", "RGB") else image.convert("RGB")
    transform = _transform(profile, source.mode)
    if transform is None:
        return image.convert(mode)
    converted = transform.apply(source)
    if mode == "RGBA":
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the colours of a profile to sRGB; None where it is sRGB, or cannot be read."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        _log.warning("a colour profile cannot be read: its images are taken to be sRGB")
        return None
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = steps[:, None] if mode == "L" else np.stack(np.meshgrid(steps, steps, steps), -1)
    if mode == "CMYK":
        return transform
    probe = Image.fromarray(grid.reshape(-1, 1) if mode == "L" else grid.reshape(-1, 1, 3))
    change = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
    if np.abs(change).max() <= _SAME_COLOUR:
        return None
    _log.info("images with another colour profile than sRGB are converted by it")
    return transform
