"""The camera of queries, from a file: as OpenCV or ROS write it, or plain keys in JSON."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..camera import Camera
from ..decode import Header, exif_focal, read_header
from ..distortion import Distortion
from ..errors import InputError
from ..query_lens import QueryLens
from .lenses import checked_camera

_MATRIX = ("camera_matrix", "cameraMatrix", "K")
_COEFFICIENTS = ("distortion_coefficients", "dist_coeffs", "distCoeffs", "D")
_WIDTH, _HEIGHT = ("image_width", "w", "width"), ("image_height", "h", "height")
_NUMBERS = (
    *_WIDTH, *_HEIGHT, "fx", "fl_x", "fy", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4", "k5", "k6",
    "p1", "p2",
)  # fmt: skip
_WORDS = ("camera_model", "distortion_model")
_PINHOLES = ("", "plumb_bob", "rational_polynomial", "opencv", "pinhole", "simple_radial", "radial")
_HUGE = 1e12  # no number of a camera is larger
_BRACKETS = 200  # of a camera file, at most
_LENGTHS = (0, 4, 5, 8)  # of OpenCV's distortion vector: k1 k2 p1 p2 k3 k4 k5 k6


def query_lens(path: Path, model: Camera, queries: Sequence[Path]) -> QueryLens:
    """The camera of queries by a file (see `read_camera`), against the model's.

    Raises:
        InputError: as `read_camera`; or it sees next to nothing of what the model's camera does.
    """
    sizes = (header.turned_size for _, header in _readable(queries))
    camera, lens = read_camera(path, next(sizes, (model.width, model.height)))
    return QueryLens(lens, (camera.width, camera.height), model, str(path))


def exif_lens(model: Camera, queries: Sequence[Path]) -> QueryLens:
    """The camera of queries by their EXIF focal length, a pinhole with its axis in the middle.

    Raises:
        InputError: one of them says none, or they differ.
    """
    found = {(exif_focal(path), header.turned_size) for path, header in _readable(queries)}
    if not found or any(focal is None for focal, _ in found):
        raise InputError(
            "--camera exif: images without FocalLengthIn35mmFilm, from which the focal length is "
            "taken: give a camera file, or --camera fit."
        )
    if len(found) != 1:
        raise InputError(
            f"--camera exif: {len(queries)} images have {len(found)} focal lengths and sizes: give "
            "those of one camera at a time, or a camera file."
        )
    focal, (width, height) = next(iter(found))
    pixels = float(focal or 0.0) * math.hypot(width, height)
    camera = checked_camera(
        str(queries[0]), torch.eye(4, dtype=torch.float64), (pixels, pixels),
        (width / 2, height / 2), (width, height),
    )  # fmt: skip
    return QueryLens(pinhole_lens(camera), (width, height), model, "EXIF")


def read_camera(path: Path, size: tuple[int, int]) -> tuple[Camera, Distortion]:
    """Intrinsics and distortion of a camera, whose place means nothing.

    `size` (width, height) is that of the queries, for files that say none.

    `camera_matrix` counts from the middle of the first pixel (OpenCV), plain `cx` and `cy` from its
    corner (transforms.json).

    Raises:
        InputError: there is no such file, a number is missing or makes no sense, or the lens is a
            fisheye or has a prism.
    """
    values = _values(path)
    kinds = [str(values[name] or "").lower() for name in _WORDS if name in values]
    if any(kind not in _PINHOLES for kind in kinds):
        raise InputError(f"{path} is of a fisheye or unknown kind of lens: undistort the queries.")
    width, height = (_first(values, names) for names in (_WIDTH, _HEIGHT))
    if width is None or height is None:
        width, height = size
    matrix = next((values[name] for name in _MATRIX if values.get(name) is not None), None)
    if matrix is not None:
        if matrix.size != 9:
            raise InputError(f"{path}: camera_matrix has {matrix.size} values, not 9: correct it.")
        rows = matrix.reshape(3, 3)
        skewed = any(rows[place] != 0 for place in ((0, 1), (1, 0), (2, 0), (2, 1)))
        if skewed or rows[2, 2] != 1:
            raise InputError(
                f"{path}: camera_matrix is not [fx 0 cx; 0 fy cy; 0 0 1], without skew: correct it."
            )
        fx, fy, cx, cy = rows[0, 0], rows[1, 1], rows[0, 2] + 0.5, rows[1, 2] + 0.5
    else:
        fx, fy = (_first(values, names) for names in (("fx", "fl_x"), ("fy", "fl_y")))
        if fx is None:
            raise InputError(f"{path} has neither camera_matrix nor fx: give one of them.")
        fy = fx if fy is None else fy
        cx, cy = values.get("cx", width / 2), values.get("cy", height / 2)
    numbers = [float(value) for value in (fx, fy, cx, cy, width, height)]
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{path}: a number is not finite: correct it.")
    camera = checked_camera(
        str(path), torch.eye(4, dtype=torch.float64), (numbers[0], numbers[1]),
        (numbers[2], numbers[3]), (numbers[4], numbers[5]),
    )  # fmt: skip
    return camera, _lens(camera, _coefficients(values, path), path)


def _readable(queries: Sequence[Path]) -> Iterator[tuple[Path, Header]]:
    """Those that can be opened; the others are errors of their own when they are inspected."""
    for path in queries:
        with suppress(InputError):
            yield path, read_header(path)


def pinhole_lens(camera: Camera) -> Distortion:
    """That of a pinhole camera."""
    return Distortion(
        (), (0.0, 0.0), (), (camera.fx / camera.width, camera.fy / camera.height),
        (camera.cx / camera.width, camera.cy / camera.height),
    )  # fmt: skip


def _lens(camera: Camera, found: list[float], path: Path) -> Distortion:
    k1, k2, p1, p2, k3, *divisor = found + [0.0] * (8 - len(found))
    bent = Distortion.of(camera, str(path), (k1, k2, k3), (p1, p2), divisor)
    return pinhole_lens(camera) if bent is None else bent


def _coefficients(values: Mapping[str, Any], path: Path) -> list[float]:
    """k1 k2 p1 p2 k3 k4 k5 k6, as many as there are."""
    vector = next((values[name] for name in _COEFFICIENTS if values.get(name) is not None), None)
    if vector is None:
        names = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
        return [float(values.get(name) or 0.0) for name in names]
    found = [float(value) for value in vector.ravel()]
    while len(found) > 8 and found[-1] == 0:
        found.pop()
    if len(found) not in _LENGTHS or not all(map(math.isfinite, found)):
        raise InputError(
            f"{path}: distortion_coefficients are k1 k2 p1 p2, with k3, or with k4 k5 k6 too, "
            f"finite numbers; it has {len(found)}: correct it."
        )
    return found


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _values(path: Path) -> dict[str, Any]:
    """What the file says by name: numbers, words, arrays."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no camera file {path}: check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a camera file ({error}): check it.") from None
    if text.count("[") + text.count("{") > _BRACKETS:  # the parsers would not survive their depth
        raise InputError(f"{path} is no camera file: it has more than {_BRACKETS} brackets.")
    plain = _json(text)
    found = _storage(text, path) if plain is None else plain
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no camera: give camera_matrix, or fx, fy, cx, cy, w, h.")
    for name in (*_MATRIX, *_COEFFICIENTS):
        if found.get(name) is not None:
            found[name] = _array(found[name], name, path)
    for name in _NUMBERS:
        if name in found and (isinstance(found[name], bool) or not _is_number(found[name])):
            raise InputError(f"{path}: {name} is {found[name]!r}: give a number.")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not abs(value) > _HUGE


def _json(text: str) -> Any:
    """The content of JSON; None of other text."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _array(value: Any, name: str, path: Path) -> np.ndarray:
    """Nested lists, or rows, cols and data."""
    content = value.get("data") if isinstance(value, dict) else value
    try:
        return np.asarray(content, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: {name} is no matrix of numbers: correct it.") from None


def _storage(text: str, path: Path) -> dict[str, Any]:
    """YAML or XML by OpenCV's reader; ROS leaves YAML's first line out."""
    import cv2  # 0.3 s to import

    if not text.lstrip().startswith(("<", "%YAML")):
        text = f"%YAML:1.0\n---\n{text}"
    mode = cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY
    found: dict[str, Any] = {}
    try:
        storage = cv2.FileStorage(text, mode)
        for name in (*_MATRIX, *_COEFFICIENTS):
            node = storage.getNode(name)
            if node.empty():
                continue
            data = node.getNode("data") if node.isMap() else node
            matrix = node.mat() if node.isMap() and not node.getNode("dt").empty() else None
            found[name] = [data.at(i).real() for i in range(data.size())]
            if matrix is not None:
                found[name] = matrix
        for name in _NUMBERS:
            node = storage.getNode(name)
            if not node.empty():
                found[name] = node.real()
        for name in _WORDS:
            node = storage.getNode(name)
            if not node.empty():
                found[name] = node.string()
        storage.release()
    except (cv2.error, SystemError) as error:
        raise InputError(f"{path} is neither YAML, XML nor JSON of OpenCV: check it.") from error
    return found
