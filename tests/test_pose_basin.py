"""The basin study: its geometry and its outputs."""

import math

import pytest
import torch

from benchmarks.pose_basin import Row, draw, table, turned
from pose_estimation import rotation_error
from pose_estimation.templates import look_at

ROWS = [Row("lm", 5, 8, 8, 0.4, 0.3), Row("auto", 5, 8, 8, 0.5, 0.4), Row("lm", 20, 2, 8, 0.6, 0.5),
        Row("auto", 20, 6, 8, 0.9, 0.7)]  # fmt: skip


def test_turning_leaves_the_centre_where_it_was():
    position = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    centre = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    pose = look_at(position, centre)
    axis = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moved = turned(pose, centre, axis, math.radians(12))
    assert math.degrees(rotation_error(moved, pose)) == pytest.approx(12)
    before = pose[:3, :3] @ centre + pose[:3, 3]
    assert torch.allclose(moved[:3, :3] @ centre + moved[:3, 3], before, atol=1e-12)


def test_the_table_has_a_line_per_angle():
    lines = table(ROWS).splitlines()
    assert lines[0] == "| start error | lm | auto |"
    assert lines[2] == "| 5 deg | 8 of 8, 0.40 s | 8 of 8, 0.50 s |"
    assert len(lines) == 4


def test_the_picture_is_drawn(tmp_path):
    path = tmp_path / "basin.png"
    draw(ROWS, path)
    assert path.read_bytes()[:4] == b"\x89PNG"
