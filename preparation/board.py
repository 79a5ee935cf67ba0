"""The printed board under the object: millimetres, which way is up, and the ground plane.

A ChArUco board (OpenCV's aruco) on an A4 page; its dark squares are speckled, so that structure
from motion finds texture on it everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from scene import Camera, atomic_write

from .geometry import Similarity, similarity_between, triangulate

PAGE = (297.0, 210.0)  # mm, A4 on its side
SQUARES = (9, 6)
SQUARE, _MARKER = 30.0, 22.0  # mm
_DICTIONARY = cv2.aruco.DICT_4X4_50
_PER_MM = 10  # pixels of the printed page: squares fall on whole pixels
_SPECKLES = 2600  # on the dark squares
_QUIET = 3.0  # mm at the edges of a square without speckles: there the corners are measured
_FEWEST_CORNERS = 6  # in space, to trust the board
_FEWEST_IN_IMAGE = 4  # of a photograph
_LARGEST_ERROR = 0.02  # of a square, median distance of the corners from where the board has them


@dataclass(frozen=True)
class FoundBoard:
    """The board in the frame of the cameras."""

    into_millimetres: Similarity  # x right, y up the page, z up from the page; origin: its middle
    corners: int  # that were found in space
    photographs: int  # that show it
    error: float  # mm, median


def draw_page() -> NDArray[np.uint8]:
    """The page as it is printed, grey [H, W], 254 dots per inch."""
    width, height = (round(side * _PER_MM) for side in PAGE)
    page = np.full((height, width), 255, np.uint8)
    size = tuple(round(n * SQUARE * _PER_MM) for n in SQUARES)
    drawn = _board().generateImage(size)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    page[top : top + size[1], left : left + size[0]] = _speckled(np.asarray(drawn, np.uint8))
    image = Image.fromarray(page)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(38)
    text = "Print at 100 %, on matte paper. This bar must measure 100 mm:"
    draw.text((left, height - 105), text, fill=0, font=font)
    draw.rectangle((width - left - 1000, height - 95, width - left - 1, height - 75), fill=0)
    return np.asarray(image)


def write_board(path: Path) -> None:
    """Writes the page as a PDF of exactly A4."""
    with atomic_write(path) as file:
        Image.fromarray(draw_page()).save(file, format="PDF", resolution=25.4 * _PER_MM)


def find_board(
    images: Sequence[NDArray[np.uint8]],  # [H, W, 3] or [H, W], undistorted
    cameras: Sequence[Camera],
) -> FoundBoard | None:
    """Finds the board in photographs at known poses; None where it is not there, or not flat."""
    detector = cv2.aruco.CharucoDetector(_board())
    rays: dict[int, list[tuple[int, NDArray[np.float64]]]] = {}
    showing = 0
    for number, image in enumerate(images):
        corners, names, _, _ = detector.detectBoard(image)
        if names is None or len(names) < _FEWEST_IN_IMAGE:
            continue
        showing += 1
        for name, corner in zip(map(int, names.ravel()), corners.reshape(-1, 2), strict=True):
            # OpenCV counts from the pixel's centre, cameras from its corner
            rays.setdefault(name, []).append((number, corner.astype(np.float64) + 0.5))
    places = {}
    for name, seen in rays.items():
        point = triangulate([cameras[i] for i, _ in seen], np.array([xy for _, xy in seen]))
        if point is not None:
            places[name] = point
    if len(places) < _FEWEST_CORNERS:
        return None
    found = np.array(list(places.values()))
    printed = corner_positions()[list(places)]
    into, errors = similarity_between(found, printed)
    error = float(np.median(errors))
    if error > _LARGEST_ERROR * SQUARE:
        return None
    return FoundBoard(into, len(places), showing, error)


def corner_positions() -> NDArray[np.float64]:
    """Where the inner corners are printed, [40, 3] mm, from the middle of the page, y upwards."""
    corners = np.asarray(_board().getChessboardCorners(), np.float64)
    middle = np.array([SQUARES[0] * SQUARE / 2, SQUARES[1] * SQUARE / 2, 0.0])
    return (corners - middle) * np.array([1.0, -1.0, 1.0])


def _board() -> cv2.aruco.CharucoBoard:
    dictionary = cv2.aruco.getPredefinedDictionary(_DICTIONARY)
    return cv2.aruco.CharucoBoard(SQUARES, SQUARE, _MARKER, dictionary)


def _speckled(board: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Dark grey dots on the dark squares of a drawn board."""
    random = np.random.default_rng(0)
    side, quiet = SQUARE * _PER_MM, _QUIET * _PER_MM
    dots = np.zeros_like(board)
    for _ in range(_SPECKLES):
        column, row = random.integers(SQUARES[0]), random.integers(SQUARES[1])
        radius = int(random.integers(4, 13))
        x, y = random.uniform(quiet + radius, side - quiet - radius, size=2)
        if (column + row) % 2 == 0:
            centre = (round(column * side + x), round(row * side + y))
            cv2.circle(dots, centre, radius, int(random.integers(60, 110)), -1)
    return np.maximum(board, dots)
