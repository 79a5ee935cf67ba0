"""Masks that the user has: a folder of them, or the alpha channels of the photographs."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from scene import InputError

from .photographs import Photograph
from .posed import Posed


def given_masks(
    folder: Path | None, alpha: Path, photographs: Sequence[Photograph], posed: Posed
) -> list[NDArray[np.uint8]] | None:
    """Undistorted masks [H, W] of 0 to 255; None where there are none.

    Args:
        folder: The user's, of masks that are white on the object.
        alpha: Of the alpha channels, which count where every photograph has one.

    Raises:
        InputError: a photograph has no mask in the folder, or one cannot be read.
    """
    by_name = {one.name: one for one in photographs}
    chosen = [by_name[name] for name in posed.names]
    if folder is None and not all(one.mask for one in chosen):
        return None
    masks = []
    for one, pinhole in zip(chosen, posed.pinholes, strict=True):
        path = alpha / f"{one.name}.png"
        if folder is not None:
            path = _mask_file(folder, one)
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise InputError(f"{path} cannot be read as a mask: save it as a grey PNG.")
        height, width = mask.shape
        if abs(width * one.height - height * one.width) > max(width, height):
            raise InputError(
                f"{path} is {width} x {height}, its photograph {one.width} x {one.height}: masks "
                "need the shape of the upright photographs."
            )
        resized = cv2.resize(mask, (one.width, one.height), interpolation=cv2.INTER_AREA)
        masks.append(pinhole.image(np.asarray(resized, np.uint8), is_mask=True))
    if not any((mask > 127).any() for mask in masks):
        raise InputError("The masks are empty: they must be white on the object.")
    return masks


def _mask_file(folder: Path, one: Photograph) -> Path:
    """The mask of a photograph in the user's folder."""
    source = Path(one.source)
    names = (source.with_suffix(".png"), Path(f"{source}.png"))
    candidates = [folder / n for name in names for n in (name, Path(name.name))]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{folder} has no mask for {one.source}: name it {names[0].name} or {names[1].name}."
        )
    return found
