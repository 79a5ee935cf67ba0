"""Points that nerfstudio names, and queries that COLMAP registered with the train views."""

import json
import struct
from pathlib import Path

import captures
import numpy as np
import pytest
import torch
from captures import orbit
from plyfile import PlyData, PlyElement

from scene import InputError, read_capture, true_poses

XYZ = [(0.1, 0.2, 0.3), (1.0, -1.0, 0.5), (float("nan"), 0.0, 0.0)]


def with_points(
    root: Path, value: str = "./points.ply", text: bool = False, kind: str = "u1"
) -> Path:
    """A capture in MAD's layout that names two points and one that lies nowhere."""
    captures.write_mad(root, 3, {"good": 1})
    content = json.loads((root / "transforms.json").read_text()) | {"ply_file_path": value}
    (root / "transforms.json").write_text(json.dumps(content))
    scale = 255 if kind == "u1" else 1
    rows = [(*xyz, scale, 0, scale // 5 if kind == "u1" else 0.2) for xyz in XYZ]
    form = [*((axis, "f8") for axis in "xyz"), *((c, kind) for c in ("red", "green", "blue"))]
    element = PlyElement.describe(np.array(rows, dtype=form), "vertex")
    PlyData([element], text=text).write(root / "points.ply")
    return root


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("kind", ["u1", "f4"])
def test_the_points_of_nerfstudio_are_read(tmp_path: Path, text: bool, kind: str) -> None:
    points = read_capture(with_points(tmp_path, text=text, kind=kind)).points
    assert points is not None
    torch.testing.assert_close(points.xyz, torch.tensor(XYZ[:2]))
    torch.testing.assert_close(points.rgb, torch.tensor([[1.0, 0.0, 0.2]] * 2))


def test_points_that_are_not_there_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_capture(with_points(tmp_path / "a", "gone.ply")).points is None
    assert "there is no" in caplog.text
    with pytest.raises(InputError, match=r"ply_file_path '\.\./x\.ply' leads out"):
        read_capture(with_points(tmp_path / "b", "../x.ply"))
    root = with_points(tmp_path / "c")
    (root / "points.ply").write_bytes((root / "points.ply").read_bytes()[:-40])
    with pytest.raises(InputError, match=r"points\.ply is no PLY of points .* or is damaged"):
        read_capture(root)


@pytest.mark.parametrize("folder", ["test", "images/test"])
def test_registered_images_in_test_are_queries_with_true_poses(tmp_path: Path, folder: str) -> None:
    root = captures.write_colmap(tmp_path)
    poses, images = orbit(7), root / "sparse/0/images.bin"
    content = images.read_bytes()
    values = (*captures.quaternion_of(poses[6]), *poses[6][:3, 3].tolist())
    added = struct.pack("<i7di", 9, *values, 1) + b"test/Burrs/0.png\0" + struct.pack("<Q", 0)
    images.write_bytes(struct.pack("<Q", 7) + content[8:] + added)
    captures.save_image(root / folder / "Burrs/0.png", captures.ball_image(poses[6]))
    captures.save_image(root / "ground_truth/Burrs/0_mask.png", captures.ball_image(poses[6]))
    capture = read_capture(root)
    assert len(capture.views) == 6
    assert [query.name for query in capture.queries] == ["Burrs/0"]
    assert capture.queries[0].is_anomalous
    assert capture.queries[0].mask_path == root / "ground_truth/Burrs/0_mask.png"
    truth = true_poses(capture)
    torch.testing.assert_close(truth["Burrs/0"], poses[6], rtol=0, atol=1e-9)
