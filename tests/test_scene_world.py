"""Captures in any unit, anywhere: computed near the origin, reported as the files have it."""

import json
from pathlib import Path

import captures
import pytest
import torch

from scene import World, read_capture, true_poses
from scene.world import common_point, world_for


def moved(root: Path, unit: float, origin: tuple[float, float, float]) -> Path:
    """A capture with its poses in another unit and from another origin."""
    for name in ("transforms.json", "test_poses.json"):
        content = json.loads((root / name).read_text())
        for frame in content["frames"]:
            for row, start in zip(frame["transform_matrix"], origin, strict=False):
                row[3] = unit * row[3] + start
        (root / name).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(("unit", "far"), [(1e-3, 0.0), (250.0, 0.0), (1.0, 5e5), (0.05, 80.0)])
def test_any_unit_and_origin_is_computed_near_four_units(
    tmp_path: Path, unit: float, far: float
) -> None:
    plain = read_capture(captures.write_mad(tmp_path / "plain"))
    origin = (far, -far, 0.5 * far)
    capture = read_capture(moved(captures.write_mad(tmp_path / "moved"), unit, origin))
    assert plain.world == World()
    assert capture.world != World()
    cameras = [view.camera for view in capture.views]
    point = common_point(cameras)
    assert point is not None
    assert float(point.norm()) < 1e-3 + 100 * (far == 0)
    distances = torch.stack([(camera.centre - point).norm() for camera in cameras])
    assert 2.8 < float(distances.min()) <= float(distances.max()) < 5.7
    truth = true_poses(capture)
    for ours, given in zip(capture.views, plain.views, strict=True):
        expected = given.camera.centre * unit + torch.tensor(origin, dtype=torch.float64)
        pose = capture.world.into_files(ours.camera.world_to_camera)
        centre = -pose[:3, :3].T @ pose[:3, 3]
        assert torch.allclose(centre, expected, rtol=1e-9, atol=1e-6 * unit)
    for name, pose in true_poses(plain).items():
        assert torch.allclose(truth[name][:3, :3], pose[:3, :3], atol=1e-12)


def test_ordinary_captures_keep_every_bit(tmp_path: Path) -> None:
    poses = captures.orbit(5)
    world = world_for([captures.camera_at(pose) for pose in poses])
    assert world == World()
    assert world.into_model(poses[0]) is poses[0]
    assert world.into_files(poses[0]) is poses[0]


def test_there_and_back() -> None:
    world = World(2.0**-12, (3e5, -2.0, 7.0))
    pose = captures.orbit(3)[1]
    assert torch.allclose(world.into_files(world.into_model(pose)), pose, atol=1e-9)
    points = torch.rand(7, 3, dtype=torch.float64)
    assert torch.allclose(world.points_into_files(world.points_into_model(points)), points)
    assert World.from_json({"unit": world.unit, "origin": list(world.origin)}) == world
    assert World.from_json(None) == World()


def test_points_of_colmap_move_with_the_cameras(tmp_path: Path) -> None:
    root = captures.write_colmap(tmp_path / "cup", binary=False)
    for name, first in (("images.txt", 5), ("points3D.txt", 1)):
        path = root / "sparse/0" / name
        lines = []
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 7 and not line.startswith("#"):
                words[first : first + 3] = [str(1e-3 * float(w)) for w in words[first : first + 3]]
            lines.append(" ".join(words))
        path.write_text("\n".join(lines) + "\n")
    capture = read_capture(root)
    assert capture.points is not None
    expected = torch.tensor([point[:3] for point in captures.POINTS]) * 1e-3 / capture.world.unit
    assert torch.allclose(capture.points.xyz, expected, rtol=1e-4)


def test_parallel_cameras_have_no_common_point() -> None:
    poses = [captures.look_at((x, 0.0, 4.0), (x, 0.01, 0.0)) for x in (0.0, 1.0, 2.0)]
    cameras = [captures.camera_at(pose) for pose in poses]
    assert common_point(cameras) is None
    assert world_for(cameras) == World()
