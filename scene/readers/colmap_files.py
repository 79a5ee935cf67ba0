"""COLMAP's model files, binary and text (format: https://colmap.github.io/format.html).

Both forms give the same records. Poses are world-to-camera with OpenCV axes already.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError

# COLMAP's camera models in the order of their ids: name, number of parameters
CAMERA_MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8), ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
)  # fmt: skip
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
_POINT_2D = 24  # bytes of x, y (double) and the 3D point's id (int64)


@dataclass(frozen=True)
class ColmapCamera:
    """An entry of cameras.bin or cameras.txt."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """An entry of images.bin or images.txt: a registered image."""

    name: str
    camera_id: int
    quaternion: tuple[float, ...]  # world to camera, wxyz
    translation: tuple[float, ...]


def read_cameras(model: Path) -> dict[int, ColmapCamera]:
    """Camera id to camera.

    Raises:
        InputError: the file is absent, damaged, or holds an unknown camera model.
    """
    if (model / "cameras.bin").is_file():
        return dict(_binary_cameras(_Bytes(model / "cameras.bin")))
    return dict(_text_cameras(model / "cameras.txt"))


def read_images(model: Path) -> list[ColmapImage]:
    """The registered images.

    Raises:
        InputError: the file is absent or damaged.
    """
    if (model / "images.bin").is_file():
        return list(_binary_images(_Bytes(model / "images.bin")))
    return list(_text_images(model / "images.txt"))


def read_points(model: Path) -> np.ndarray:
    """The sparse points, [M, 6] float64: x, y, z and red, green, blue in 0..255; M may be 0.

    Raises:
        InputError: the file is damaged.
    """
    if (model / "points3D.bin").is_file():
        rows = list(_binary_points(_Bytes(model / "points3D.bin")))
    elif (model / "points3D.txt").is_file():
        rows = list(_text_points(model / "points3D.txt"))
    else:
        rows = []
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


class _Bytes:
    """A binary file read front to back; running out of bytes is an InputError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = path.read_bytes()
        self.at = 0

    def take(self, layout: str) -> tuple:
        form = struct.Struct("<" + layout)
        self._need(form.size)
        values = form.unpack_from(self.content, self.at)
        self.at += form.size
        return values

    def skip(self, count: int) -> None:
        self._need(count)
        self.at += count

    def text(self) -> str:
        end = self.content.find(b"\0", self.at)
        if end < 0:
            raise self.damaged()
        value = self.content[self.at : end].decode("utf-8", errors="replace")
        self.at = end + 1
        return value

    def damaged(self) -> InputError:
        return _damaged(self.path)

    def _need(self, count: int) -> None:
        if self.at + count > len(self.content):
            raise self.damaged()


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is truncated or not of COLMAP's format: export the model again.")


def _binary_cameras(file: _Bytes) -> Iterator[tuple[int, ColmapCamera]]:
    for _ in range(*file.take("Q")):
        camera_id, model_id, width, height = file.take("iiQQ")
        if not 0 <= model_id < len(CAMERA_MODELS):
            raise InputError(
                f"{file.path}: camera model {model_id} is not known: undistort the images with "
                "colmap image_undistorter and use its output."
            )
        model, count = CAMERA_MODELS[model_id]
        yield camera_id, ColmapCamera(model, width, height, file.take(f"{count}d"))


def _binary_images(file: _Bytes) -> Iterator[ColmapImage]:
    for _ in range(*file.take("Q")):
        values = file.take("i7di")
        name = file.text()
        (points,) = file.take("Q")
        file.skip(_POINT_2D * points)
        yield ColmapImage(name, values[8], values[1:5], values[5:8])


def _binary_points(file: _Bytes) -> Iterator[tuple[float, ...]]:
    for _ in range(*file.take("Q")):
        values = file.take("Q3d3Bd")
        (track,) = file.take("Q")
        file.skip(8 * track)
        yield values[1:7]


def _text_lines(path: Path) -> list[str]:
    """Lines without comments; empty ones stay, since an image may have no 2D points."""
    if not path.is_file():
        raise InputError(f"There is no {path.stem}.bin or .txt in {path.parent}: export it again.")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if not line.startswith("#")]


def _text_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for words in (line.split() for line in _text_lines(path) if line):
        if len(words) < 5:
            raise _damaged(path)
        camera_id, width, height = _integers(path, [words[0], *words[2:4]])
        yield camera_id, ColmapCamera(words[1], width, height, _values(path, words[4:]))


def _text_images(path: Path) -> Iterator[ColmapImage]:
    """Each line is told by what it is: a list of 2D points may be empty, or left out altogether."""
    is_after_pose = False
    for words in (line.split(maxsplit=9) for line in _text_lines(path) if line):
        if _lists_points(words):
            if not is_after_pose:
                raise _damaged(path)
            is_after_pose = False
            continue
        if len(words) < 10:
            raise _damaged(path)
        pose = _values(path, words[1:8])
        _, camera_id = _integers(path, [words[0], words[8]])
        yield ColmapImage(words[9], camera_id, pose[:4], pose[4:])
        is_after_pose = True


def _lists_points(words: list[str]) -> bool:
    """Whether a line holds x, y and the number of a 3D point, again and again: numbers alone."""
    words = [*words[:9], *" ".join(words[9:]).split()]
    return len(words) % 3 == 0 and all(_NUMBER.fullmatch(word) for word in words)


def _text_points(path: Path) -> Iterator[tuple[float, ...]]:
    for words in (line.split() for line in _text_lines(path) if line):
        if len(words) < 7:
            raise _damaged(path)
        yield _values(path, words[1:7])


def _values(path: Path, words: list[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words)
    except ValueError:
        raise _damaged(path) from None


def _integers(path: Path, words: list[str]) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        raise _damaged(path) from None
