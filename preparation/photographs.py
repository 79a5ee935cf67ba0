"""Photographs as files have them, or the frames of a video, turned upright and copied to work on.

Nothing else opens what the user gave. A camera is what took photographs of one size through one
lens; those of each camera lie in a folder of their own.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from scene import InputError, atomic_write
from scene.readers.folders import natural_key

LONGEST = 1600  # pixels of the longer side of a working copy
FEWEST = 8  # photographs from which an object can be made out
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_FILM_DIAGONAL = 43.27  # mm, of the film that FocalLengthIn35mmFilm refers to
_JPEG_QUALITY = 95
_SHARPNESS_SIZE = 800  # pixels of the longer side, at which sharpness is measured
BLURRED = 0.14  # sharpness below which a photograph is called blurred
_SAME_FOCAL = 0.03  # relative, of one lens that does not zoom

Cameras = Literal["one", "per-folder"]


@dataclass(frozen=True)
class Photograph:
    """An upright working copy."""

    name: str  # unique, without extension
    source: str  # the file that it was made from, inside the user's folder
    camera: str  # folder of its camera
    width: int
    height: int
    focal: float | None  # pixels of the working copy, as the file says it
    sharpness: float  # 0 to 1; below BLURRED it is blurred
    mask: bool = False  # whether it came with an alpha channel

    @property
    def file(self) -> str:
        """Of the working copy, inside the folder of photographs."""
        return f"{self.camera}/{self.name}.jpg"


@dataclass(frozen=True)
class _Opened:
    """One photograph in memory."""

    source: str
    folder: str
    pixels: NDArray[np.uint8]  # [H, W, 3] or [H, W, 4]
    focal: float | None
    maker: str  # and model of the camera


def import_photographs(source: Path, work: Path, cameras: Cameras, frames: int) -> list[Photograph]:
    """Copies what is given into work/photographs, and alpha channels into work/alpha.

    Args:
        source: A folder of photographs, or a video.
        frames: How many frames to take from a video.

    Raises:
        InputError: nothing there, too few, unreadable files, all blurred, or several cameras.
    """
    if source.is_file():
        opened: Iterator[_Opened] = _video_frames(source, frames)
        total = frames
    else:
        paths = _listed(source)
        opened, total = (_open(path, source) for path in paths), len(paths)
    found: list[Photograph] = []
    lenses: dict[str, tuple[str, float | None, tuple[int, int]]] = {}
    bar = tqdm(opened, total=total, desc="photographs", unit="image", file=sys.stderr)
    for number, one in enumerate(bar):
        camera = _camera_of(one, lenses, cameras)
        found.append(_copied(one, number, camera, work))
    if len(found) < FEWEST:
        raise InputError(_too_few(source, len(found)))
    if np.median([p.sharpness for p in found]) < BLURRED:
        raise InputError(
            f"{source} is blurred (median sharpness {np.median([p.sharpness for p in found]):.2f}, "
            f"wanted {BLURRED:.2f}): take it again with more light, or move slower."
        )
    return found


def sharpness(image: NDArray[np.uint8]) -> float:
    """How much of an image's detail a blur of 9 pixels destroys, 0 (blurred) to 1 (sharp).

    Along the axis that loses less, since a moving camera blurs along one axis: the blur metric of
    Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual
    blur metric" (2007), as one minus its value. `image` is [H, W, 3] or [H, W].
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(image[..., :3], cv2.COLOR_RGB2GRAY)
    scale = _SHARPNESS_SIZE / max(grey.shape)
    if scale < 1:
        small = [max(1, round(side * scale)) for side in grey.shape[::-1]]
        grey = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
    values = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)  # noise is no detail
    kept = []
    for axis, kernel in ((1, (9, 1)), (0, (1, 9))):
        before = np.abs(np.diff(values, axis=axis))
        after = np.abs(np.diff(cv2.blur(values, kernel), axis=axis))
        lost = np.maximum(before - after, 0).sum()
        kept.append(float(lost / max(float(before.sum()), 1e-6)))
    return min(kept)


def as_json(photographs: Sequence[Photograph]) -> list[dict[str, Any]]:
    """Their fields, for a file."""
    return [asdict(one) for one in photographs]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A working copy, [H, W, 3]."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path} is damaged: add --overwrite to begin again.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _listed(source: Path) -> list[Path]:
    if not source.is_dir():
        raise InputError(f"There is no folder or video {source}: check the path.")
    visible = (p for p in source.rglob("*") if p.is_file() and not p.name.startswith("."))
    files = sorted(visible, key=lambda path: natural_key(path.relative_to(source)))
    heif = [p for p in files if p.suffix.lower() in _HEIF_SUFFIXES]
    suffixes: tuple[str, ...] = _IMAGE_SUFFIXES
    if heif:
        if not _reads_heif():
            raise InputError(
                f"{source} holds {len(heif)} HEIC photographs, which are not read: run pip install "
                "pillow-heif, or convert them to JPEG (a phone does so if it is set to 'most "
                "compatible')."
            )
        suffixes += _HEIF_SUFFIXES
    paths = [p for p in files if p.suffix.lower() in suffixes]
    others = [p for p in files if p.suffix.lower() not in suffixes]
    if others:
        print(f"left out: {len(others)} files that are no photographs (first {others[0].name})")
    if len(paths) < FEWEST:
        raise InputError(_too_few(source, len(paths)))
    return paths


def _too_few(source: Path, count: int) -> str:
    return (
        f"{source} gives {count} photographs, and at least {FEWEST} are needed: take 60 to 120 all "
        "around the object, so that neighbours overlap."
    )


def _reads_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _open(path: Path, root: Path) -> _Opened:
    """A photograph, upright and reduced."""
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            details = exif.get_ifd(ExifTags.IFD.Exif)
            size = image.size
            if image.mode.startswith(("F", "I")):
                raise InputError(
                    f"{path} has more than 8 bits a channel: export it as an 8-bit JPEG or PNG."
                )
            if image.mode not in ("RGB", "RGBA"):
                image.draft("RGB", size)
            upright = ImageOps.exif_transpose(image)
            has_alpha = "A" in upright.mode or "transparency" in upright.info
            upright = upright.convert("RGBA" if has_alpha else "RGB")
            upright.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            pixels = np.asarray(upright)
    except (
        OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError
    ) as error:  # fmt: skip
        raise InputError(
            f"{path} cannot be read as a photograph ({error}): remove it or export it again."
        ) from error
    maker = " ".join(str(exif.get(tag, "")).strip("\0 ") for tag in (0x010F, 0x0110)).strip()
    try:
        focal = _exif_focal(details, max(pixels.shape[:2]), min(pixels.shape[:2]), max(size))
    except (TypeError, ValueError, ZeroDivisionError):  # EXIF of other types than it should have
        focal = None
    folder = path.parent.relative_to(root).as_posix()
    return _Opened(path.relative_to(root).as_posix(), folder, pixels, focal, maker)


def _exif_focal(
    details: dict[int, Any], longer: int, shorter: int, stored_longer: int
) -> float | None:
    """The focal length in pixels of an image of these sides; None where EXIF does not say."""
    film = details.get(ExifTags.Base.FocalLengthIn35mmFilm)
    if isinstance(film, int | float) and film > 0:
        return float(film) / _FILM_DIAGONAL * float(np.hypot(longer, shorter))
    length = details.get(ExifTags.Base.FocalLength)
    per_unit = details.get(ExifTags.Base.FocalPlaneXResolution)
    sensor_pixels = details.get(ExifTags.Base.ExifImageWidth)
    millimetres = {2: 25.4, 3: 10.0, 4: 1.0}.get(
        int(details.get(ExifTags.Base.FocalPlaneResolutionUnit, 2) or 2)
    )
    if not length or not per_unit or not millimetres:
        return None
    # the resolution belongs to the file as the camera wrote it
    written = max(int(sensor_pixels or 0), stored_longer)
    focal = float(length) * float(per_unit) / millimetres * longer / written
    return focal if 0.3 * longer < focal < 30 * longer else None


def _camera_of(
    one: _Opened,
    lenses: dict[str, tuple[str, float | None, tuple[int, int]]],
    cameras: Cameras,
) -> str:
    """The folder of a photograph's camera; `lenses` gains one where it is new.

    Raises:
        InputError: another camera, lens or size than the others, and one camera is expected.
    """
    height, width = one.pixels.shape[:2]
    group = _plain(one.folder) if cameras == "per-folder" else ""
    shape = "tall" if height > width else "wide"
    camera = "-".join(filter(None, (group.strip("."), shape)))
    for known, (maker, focal, size) in lenses.items():
        if known.rpartition("-")[0] != camera.rpartition("-")[0]:
            continue
        zoomed = focal and one.focal and abs(focal / one.focal - 1) > _SAME_FOCAL
        if maker != one.maker or sorted(size) != sorted((width, height)) or zoomed:
            raise InputError(
                f"{one.source} is of another camera, zoom or size than the first photographs "
                f"({width} x {height} pixels, {one.maker or 'unknown camera'}; before {size[0]} x "
                f"{size[1]}, {maker or 'unknown camera'}): put those of each camera into a folder "
                "of its own and add --cameras per-folder."
            )
    lenses.setdefault(camera, (one.maker, one.focal, (width, height)))
    return camera


def _plain(name: str) -> str:
    """A name that COLMAP's lists of pairs can hold."""
    return re.sub(r"[^\w.-]", "_", name)


def _copied(one: _Opened, number: int, camera: str, work: Path) -> Photograph:
    """Writes the working copy, and its alpha channel where there is one."""
    name = f"{number:04d}_{_plain(Path(one.source).stem)}"
    height, width = one.pixels.shape[:2]
    with atomic_write(work / "photographs" / camera / f"{name}.jpg") as file:
        Image.fromarray(one.pixels[..., :3]).save(file, format="JPEG", quality=_JPEG_QUALITY)
    has_mask = one.pixels.shape[2] == 4 and bool((one.pixels[..., 3] < 128).any())
    if has_mask:
        with atomic_write(work / "alpha" / f"{name}.png") as file:
            Image.fromarray(one.pixels[..., 3]).save(file, format="PNG")
    return Photograph(
        name, one.source, camera, width, height, one.focal, sharpness(one.pixels), has_mask
    )


def _video_frames(path: Path, count: int) -> Iterator[_Opened]:
    """The sharpest frame of each of `count` equal stretches, left out where nothing has moved."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"{path} is no video that is read: give a folder of photographs.")
    video = cv2.VideoCapture(str(path))
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if not video.isOpened() or total < FEWEST:
        raise InputError(f"{path} cannot be read as a video: convert it to MP4 (H.264).")
    try:
        for number in range(count):
            first, last = number * total // count, (number + 1) * total // count
            best, best_sharpness = None, -1.0
            for _ in range(first, last):
                read, frame = video.read()
                if not read:
                    break
                value = sharpness(np.asarray(frame, np.uint8))
                if value > best_sharpness:
                    best, best_sharpness = frame, value
            if best is None:
                continue
            scale = min(1.0, LONGEST / max(best.shape[:2]))
            small = cv2.resize(best, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            pixels = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)
            yield _Opened(f"frame {number:04d}", "", pixels, None, "video")
    finally:
        video.release()
