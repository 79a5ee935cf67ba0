"""Zones of the surface: painted on one image, honoured at every pose, kept in a sealed file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from captures import camera_at, look_at, painted_ball, save_image

from anomaly import painted_members
from detect import DetectConfig, detect
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.presets import DETECTION
from pipeline.zones import Zone, check_zone, load_zones, save_zones
from scene import InputError

SPOT = (1.0, 0.0, 0.0)
PLACES = ([4.0, 0.3, 0.2], [3.7, 1.2, -0.8])
ITERATION = 400


def opened(root: Path) -> Inspector:
    settings = InspectionSettings(DETECTION["default"], torch.device("cpu"))
    return open_inspector(ModelFolder(root), settings)


@pytest.fixture
def model(ball_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ball_model, tmp_path / "Ball"))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """The ball with a spot on one of its sides, from two directions."""
    paths = [tmp_path / f"images/{number}.png" for number in range(len(PLACES))]
    for path, place in zip(paths, PLACES, strict=True):
        save_image(path, painted_ball(look_at(place), 64, SPOT, 0.6))
    return paths


def zone_around_the_spot(root: Path, image: Path, kind: str, factor: float) -> None:
    """Paints what the map of an image flags, a little wider."""
    inspector = opened(root)
    found = inspector.inspect([image])[0]
    assert found.anomaly_map is not None
    assert found.pose is not None
    assert inspector.threshold is not None
    mask = (found.anomaly_map > 0.3 * inspector.threshold.value).float()
    wide = torch.nn.functional.max_pool2d(mask[None], 9, stride=1, padding=4)[0] > 0
    camera = inspector.camera.at(found.pose.world_to_camera)
    members = painted_members(inspector.model, camera, wide)
    save_zones(ModelFolder(root), [Zone("spot", kind, factor, members)], ITERATION)  # type: ignore[arg-type]


def test_an_ignored_zone_hides_a_defect_at_every_pose_for_detect_too(
    model: Path, images: list[Path], tmp_path: Path
) -> None:
    before = detect(DetectConfig(model, images=images[0].parent, output=tmp_path / "before"))
    assert [each["is_anomalous"] for each in before.results["images"]] == [True, True]
    zone_around_the_spot(model, images[0], "ignore", 0.0)
    after = detect(DetectConfig(model, images=images[0].parent, output=tmp_path / "after"))
    assert [each["is_anomalous"] for each in after.results["images"]] == [False, False]
    assert "zone 'spot' ignored" in after.results["settings"]["notes"]
    assert all(not each["regions"] for each in after.results["images"])


def test_a_strict_zone_multiplies_the_score_of_what_lies_in_it(
    model: Path, images: list[Path]
) -> None:
    before = [found.score for found in opened(model).inspect(images)]
    zone_around_the_spot(model, images[0], "strict", 3.0)
    after = opened(model).inspect(images)
    assert [found.score for found in after] == pytest.approx([3.0 * (s or 0.0) for s in before])
    assert all(f.score == float(f.anomaly_map.max()) for f in after if f.anomaly_map is not None)


def test_a_zone_covers_what_was_painted_and_little_else(model: Path) -> None:
    inspector = opened(model)
    camera, mask = camera_at(look_at([4.0, 0.0, 0.0]), 64), torch.zeros(64, 64, dtype=torch.bool)
    mask[26:38, 26:38] = True
    members = painted_members(inspector.model, camera, mask)
    zones = [Zone("square", "ignore", 0.0, members)]
    save_zones(ModelFolder(model), zones, ITERATION)
    found = opened(model).zones
    assert found is not None
    factors = found.factor_map(inspector.model, camera)
    hit = factors == 0.0
    assert (hit & mask).sum() > 0.8 * mask.sum()
    assert (hit & ~mask).sum() < 0.4 * mask.sum()
    assert set(factors.unique().tolist()) == {0.0, 1.0}


def test_zones_of_other_gaussians_or_with_a_flipped_bit_are_refused(model: Path) -> None:
    folder = ModelFolder(model)
    count = len(folder.load_gaussians(ITERATION))
    members = torch.arange(count) % 2 == 0
    save_zones(folder, [Zone("half", "strict", 2.0, members)], ITERATION)
    loaded = load_zones(folder, ITERATION)
    assert torch.equal(loaded[0].members, members)
    assert (loaded[0].name, loaded[0].kind, loaded[0].factor) == ("half", "strict", 2.0)
    with np.load(folder.zones_path) as archive:
        arrays = dict(archive)
    arrays["members"][0, 0] ^= 1
    np.savez_compressed(folder.zones_path, **arrays)
    with pytest.raises(InputError, match="damaged"):
        opened(model)
    save_zones(folder, loaded, ITERATION)
    cloud = folder.point_cloud_path(ITERATION)
    cloud.write_bytes(cloud.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InputError, match="other Gaussians"):
        load_zones(folder, ITERATION)


@pytest.mark.parametrize(
    ("name", "kind", "factor"),
    [("", "ignore", 0.0), ("a", "hide", 0.0), ("a", "strict", 0.5), ("a" * 81, "ignore", 0.0)],
)
def test_a_zone_that_means_nothing_is_refused(name: str, kind: str, factor: float) -> None:
    with pytest.raises(InputError):
        check_zone(name, kind, factor)


def test_a_zone_is_a_colouring_of_the_report(model: Path, images: list[Path]) -> None:
    count = len(opened(model).model.gaussians)
    members = torch.zeros(2, count, dtype=torch.bool)
    members[0, : count // 2] = True
    members[1, count // 4 : count // 2] = True
    zones = [Zone("rim", "strict", 3.0, members[0]), Zone("label", "ignore", 0.0, members[1])]
    save_zones(ModelFolder(model), zones, ITERATION)
    known = opened(model).zones
    assert known is not None
    factors = known.of_gaussians()
    assert factors[: count // 4].eq(3).all()
    assert factors[count // 4 : count // 2].eq(0).all()
    assert factors[count // 2 :].isnan().all()
    found = detect(DetectConfig(model, images=images[0].parent, output=model.parent / "found"))
    html = (found.folder / "report.html").read_text()
    assert '"zones: factor on the map"' in html
