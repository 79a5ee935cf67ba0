"""The capture's frame: millimetres and z upwards by the board, else what is known without one."""

from typing import Any

import numpy as np

from .board import FoundBoard
from .geometry import Array, Plane, Similarity, upright

_EXTENT = (0.01, 0.99)  # quantiles of the object's points along each axis


def board_as_json(found: FoundBoard | None) -> dict[str, Any]:
    """A found board as JSON values; empty where there is none."""
    if found is None:
        return {}
    into = found.into_millimetres
    return {
        "scale": into.scale, "rotation": into.rotation.tolist(), "shift": into.shift.tolist(),
        "corners": found.corners, "photographs": found.photographs, "error_mm": found.error,
    }  # fmt: skip


def capture_frame(
    board: dict[str, Any],  # of board_as_json
    up: Array,  # [3], unit
    plane: Plane | None,
    surface: Array,  # [N, 3], points of the object
    length: float | None,  # of its longest side, if known
) -> tuple[Similarity, dict[str, Any]]:
    """What takes points into the capture's frame, and what is known of its unit.

    Without a board: z upwards, the origin below the object's middle on the ground, and the longest
    side `length`, or 1.
    """
    if board:
        into = Similarity(board["scale"], np.array(board["rotation"]), np.array(board["shift"]))
        figures = {name: board[name] for name in ("corners", "photographs", "error_mm")}
        return into, {"unit": "millimetres, by the board", "board": figures}
    rotation = upright(up)
    low, high = np.quantile(surface @ rotation.T, _EXTENT, axis=0)
    factor = (length or 1.0) / float((high - low).max())
    ground = plane.offset if plane is not None else low[2]
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, ground])
    unit = "arbitrary (the longest side is 1): use a board, or --scale"
    if length is not None:
        unit = f"the longest side is {length:g}"
    return Similarity(factor, rotation, -factor * origin), {"unit": unit}
