"""What the images of a capture have in common: plain background, value range, transparency.

One image says little: a dark one may be underexposed or hold 12 bits of 16. The capture tells.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .capture import Colour
from .decode import Pixels, colours_of, read_pixels
from .errors import InputError

_SAMPLE = 12  # images that are looked at
_ENOUGH = (1024, 1024)  # pixels, to which very large ones are reduced
_PLAIN = 6 / 255  # from the median colour of the borders, in a plain background
_MAJORITY = 0.6  # of the border pixels, that must be so near
_WHITE: Colour = (1.0, 1.0, 1.0)
_DEPTHS = (1023.0, 4095.0, 16383.0, 65535.0)  # highest values of 10, 12, 14 and 16 bits
_FLOAT_RANGES = (1.0, 255.0, *_DEPTHS)
_PROBES = 100  # pixels along the shorter side, whose values tell the range
_NO_CONTRAST = 16  # of 255, between the darkest and the brightest of the capture: nothing to see
_NEARLY_BLACK, _NEARLY_WHITE = 48, 208  # of 255
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Survey:
    """What was found."""

    background: Colour | None  # the one colour behind the object, where there is one
    white: float | None  # what means 1 in files of more than 8 bits; None: what their kind says


def survey_images(paths: Sequence[Path], masked: bool = False) -> Survey:
    """Looks at twelve evenly chosen images of a capture (at all for the range of 16 bits).

    Transparent images stand on white by definition, where most images are transparent or all are
    `masked` by files of their own. Of opaque
    ones, the median colour of the border pixels counts as the background when at least 60 % of
    all these pixels lie within 6/255 of it in every channel.

    Raises:
        InputError: an image cannot be read, or all are of one colour, black or white.
    """
    chosen = sorted({round(i) for i in np.linspace(0, len(paths) - 1, min(_SAMPLE, len(paths)))})
    sample = [(paths[i], read_pixels(paths[i], _ENOUGH)) for i in chosen]
    white = None
    if any(pixels.white != 255.0 for _, pixels in sample):
        white = _white_of_capture(paths)
    images = [colours_of(pixels, path, white) for path, pixels in sample]
    _say_alpha([pixels for _, pixels in sample], images)
    _check_range(images, paths[0].parent)
    return Survey(_WHITE if masked else _background(images), white)


def _white_of_capture(paths: Sequence[Path]) -> float:
    """The value that means white in the files of more than 8 bits."""
    highest, is_float = 0.0, False
    for path in paths:
        pixels = read_pixels(path, _ENOUGH)
        if pixels.white == 255.0:
            continue
        is_float |= pixels.white is None
        top = float(pixels.values[..., :3].max())
        if not np.isfinite(top):
            raise InputError(f"{path} holds infinite or NaN values: save it with 8 or 16 bits.")
        highest = max(highest, top)
    ranges = _FLOAT_RANGES if is_float else _DEPTHS
    white = next((value for value in ranges if highest <= value), None)
    if white is None:
        raise InputError(
            f"{paths[0]} and the others hold values up to {highest:g}, more than 16 bits: save "
            "them with 8 or 16 bits."
        )
    if white != 65535.0:
        _log.warning(
            "the images hold values up to %g: %g is taken to be white, in the images to be "
            "inspected too", highest, white,
        )  # fmt: skip
    return white


def _say_alpha(pixels: Sequence[Pixels], images: Sequence[NDArray[np.float32]]) -> None:
    """Says where an alpha channel is not taken for transparency."""
    ignored = sum(
        p.values.shape[2] == 4 and len(image) == 3 and bool((p.values[..., 3] < p.white).any())
        for p, image in zip(pixels, images, strict=True)
    )
    if ignored:
        _log.warning(
            "%d of %d images looked at have an alpha channel that cuts nothing out (less than 1 %% "
            "of it, or all): it is ignored", ignored, len(images),
        )  # fmt: skip


def _check_range(images: Sequence[NDArray[np.float32]], folder: Path) -> None:
    """Refuses a capture without contrast; says where it is nearly black or white."""
    values = np.concatenate([_seen(image) for image in images])
    if not len(values):
        return
    dark, bright = (255 * float(v) for v in (values.min(), values.max()))
    has_alpha = any(len(image) == 4 for image in images)
    if bright - dark < _NO_CONTRAST and not has_alpha:
        raise InputError(
            f"The images in {folder} hold values from {dark:.0f} to {bright:.0f} of 255 only, in "
            "which no object can be seen: export them with their full range."
        )
    dark, bright = (255 * float(v) for v in np.percentile(values, (0.1, 99.9)))
    if bright < _NEARLY_BLACK or dark > _NEARLY_WHITE:
        _log.warning(
            "the images are nearly %s (values from %.0f to %.0f of 255): the object can hardly be "
            "told from the background; expose or export them with their full range",
            "black" if bright < _NEARLY_BLACK else "white", dark, bright,
        )  # fmt: skip


def _seen(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The opaque values of an image [3 or 4, H, W], a hundred pixels a side at least."""
    step = max(1, min(image.shape[1:]) // _PROBES)
    some = image[:, ::step, ::step]
    return (some[:3, some[3] > 0.5] if len(some) == 4 else some).reshape(-1)


def _background(images: Sequence[NDArray[np.float32]]) -> Colour | None:
    opaque = [image for image in images if len(image) == 3]
    if 2 * len(opaque) < len(images) or not opaque:
        return _WHITE
    borders = [
        border for rgb in opaque
        for border in (rgb[:, 0], rgb[:, -1], rgb[:, 1:-1, 0], rgb[:, 1:-1, -1])
    ]  # fmt: skip
    pixels = np.concatenate(borders, axis=1).T  # [P, 3]
    plain = np.median(pixels, axis=0)
    near = (np.abs(pixels - plain) <= _PLAIN).all(axis=1)
    if near.mean() < _MAJORITY:
        return None
    red, green, blue = (float(c) for c in np.median(pixels[near], axis=0))
    return red, green, blue
