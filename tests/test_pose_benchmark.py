"""The benchmark of the poses: what it shows to the search, and how it counts."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from pose_scenes import WHITE, lens, orbit, tiny_object
from torch import Tensor

from benchmarks import pose_recall
from benchmarks.pose import Sample, draw, measure, table
from benchmarks.pose_queries import CHANGES, MADE, make, turned, variants
from pose_estimation import Hypothesis, PoseEstimate, object_extent, rotation_error
from pose_estimation.viewpoints import look_at

CENTRE = torch.tensor([0.1, 0.2, -0.1], dtype=torch.float64)


def where(pose: torch.Tensor) -> torch.Tensor:
    return pose[:3, :3] @ CENTRE + pose[:3, 3]


@pytest.mark.parametrize(
    ("kind", "factor"), [("as it is", 1), ("0.8 times as far", 0.8), ("1.25 times as far", 1.25)]
)
def test_distances_are_along_the_ray(kind, factor):
    camera = orbit(7)[3]
    pose = camera.world_to_camera
    changed = CHANGES[kind](pose, camera, CENTRE, torch.Generator().manual_seed(0))
    assert torch.allclose(where(changed), factor * where(pose))
    assert rotation_error(changed, pose) < 1e-6


def test_a_roll_turns_about_the_optical_axis():
    camera = orbit(7)[3]
    pose = camera.world_to_camera
    changed = CHANGES["rolled by any angle"](pose, camera, CENTRE, torch.Generator().manual_seed(1))
    assert torch.allclose(changed[2], pose[2])
    assert rotation_error(changed, pose) > 0.1


def test_cut_objects_lie_towards_the_border_or_the_corner():
    camera = orbit(7)[3]
    generator = torch.Generator().manual_seed(0)
    for kind, sides in (("cut off by one border", 1), ("cut off by a corner of the frame", 2)):
        x, y, z = where(CHANGES[kind](camera.world_to_camera, camera, CENTRE, generator)).tolist()
        u, v = camera.fx * x / z / (lens().width / 2), camera.fy * y / z / (lens().height / 2)
        assert sum(math.isclose(abs(share), 0.67, rel_tol=1e-6) for share in (u, v)) == sides


def test_the_pair_is_symmetric_under_half_a_turn():
    gaussians = tiny_object()
    pair = list(variants(gaussians).values())[2]
    centre = object_extent(gaussians)[0].to(gaussians.means)
    first, second = pair.means.split(len(gaussians))
    turned = (first - centre) * torch.tensor([-1.0, -1.0, 1.0]) + centre
    assert torch.allclose(turned, second, atol=1e-6)
    colour = list(variants(gaussians).values())[1].sh[:, 0]
    assert torch.allclose(colour[:, 0], colour[:, 1])


def test_turning_leaves_the_centre_where_it_was():
    position = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    centre = torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64)
    pose = look_at(position, centre)
    axis = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    moved = turned(pose, centre, axis, math.radians(12))
    assert math.degrees(rotation_error(moved, pose)) == pytest.approx(12)
    before = pose[:3, :3] @ centre + pose[:3, 3]
    assert torch.allclose(moved[:3, :3] @ centre + moved[:3, 3], before, atol=1e-12)


def estimate(pose: Tensor, pose_ok: bool | None) -> PoseEstimate:
    return PoseEstimate(pose, 0.0, 1, 0, pose_ok)


def test_verdicts_are_counted():
    first, second = (camera.world_to_camera for camera in orbit(5)[:2])
    blank = torch.ones(3, 8, 8)
    samples = [Sample(blank, first)] * 3 + [Sample(blank, None)] * 2
    found = [
        estimate(first, True),
        estimate(first, False),  # a false alarm
        estimate(second, True),  # a miss
        estimate(first, True),  # a miss: there is no object
        estimate(first, False),
    ]
    answers = iter(found)
    row = measure("mixed", lambda sample: next(answers), samples)
    assert (row.images, row.right, row.flagged, row.wrong_verdicts) == (5, 2, 2, 3)
    assert row.rotation_median == 0
    assert row.rotation_worst is not None
    assert row.rotation_worst > 1
    answers = iter(found[3:])
    alone = measure("noise", lambda sample: next(answers), samples[3:])
    assert alone.rotation_median is None
    lines = table([row, alone]).splitlines()
    assert lines[2].startswith("| mixed | 5 | 2 | 2 | 3 | 0.000, worst")
    assert "| - | - |" in lines[3]


def test_without_a_check_there_is_no_wrong_verdict_and_the_shares_are_drawn(tmp_path):
    pose, path = orbit(5)[0].world_to_camera, tmp_path / "basin.png"
    samples = [Sample(torch.ones(3, 8, 8), pose, pose)]
    rows = [measure("lm", lambda sample: estimate(pose, None), samples) for _ in range(4)]
    assert (rows[0].right, rows[0].flagged, rows[0].wrong_verdicts) == (1, 0, 0)
    draw(rows, (5, 20), ("lm", "auto"), path)
    assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("kind", MADE)
def test_made_images_fit_the_camera(kind):
    camera = lens().resized(64, 48)
    image = make(kind, camera, WHITE, torch.Generator().manual_seed(0))
    assert image.shape == (3, 48, 64)
    assert 0 <= image.min() <= image.max() <= 1
    again = make(kind, camera, WHITE, torch.Generator().manual_seed(0))
    assert torch.equal(image, again)
    other = (image != 1).any(dim=0).float().mean()
    least, most = {"background only": (0, 0), "tiny object": (1e-3, 0.01),
                   "noise square": (0.2, 0.3), "half": (0.4, 0.6)}.get(kind, (0.9, 1))  # fmt: skip
    assert least <= other <= most


def test_recall_counts_the_coarse_stage_apart_from_the_poses(monkeypatch):
    """Three queries: found, told as an alternative, and lost but trusted."""
    cameras = orbit(4)
    truth = {f"good/{n}": camera.world_to_camera for n, camera in enumerate(cameras[:3])}
    wrong = cameras[3].world_to_camera
    poses = [
        estimate(truth["good/0"], True),
        replace(estimate(wrong, True), alternatives=(truth["good/1"],)),
        estimate(wrong, True),
    ]
    hypotheses = [[Hypothesis(pose, 1.0)] for pose in (*truth.values(),)]
    hypotheses[2] = [Hypothesis(wrong, 1.0)]
    waiting = iter(hypotheses)
    inspector = SimpleNamespace(
        read=lambda path: torch.ones(3, 8, 8), camera=lens(), model=None, settings=None,
        expected_residual=None, locate=lambda images: [poses.pop(0)],
        matcher=SimpleNamespace(coarse_poses_many=lambda images, camera: [next(waiting)]),
    )  # fmt: skip
    queries = [SimpleNamespace(name=name, image_path=None) for name in truth]
    monkeypatch.setattr(pose_recall, "true_poses", lambda capture: truth)
    monkeypatch.setattr(
        pose_recall, "estimate_pose", lambda *parts: estimate(parts[3][0].world_to_camera, True)
    )
    row = pose_recall.recall("tiny", inspector, SimpleNamespace(queries=queries), 9)  # type: ignore[arg-type]
    assert (row.images, row.within_5, row.within_10) == (3, 2, 2)
    assert (row.found, row.right, row.right_from_truth) == (2, 2, 3)
    assert (row.ambiguous, row.refused, row.wrong_trusted) == (1, 0, 1)
    assert "| tiny | 3 | 2 | 2 |" in pose_recall.table([row])
