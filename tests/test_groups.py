"""Several images of one object: a defect that stays is told from flashes that move."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from captures import frame, look_at, orbit, painted_ball, save_image, write_transforms
from small_training import small

from anomaly import (
    PlaceTail,
    agreement,
    coverage,
    fit_score_distribution,
    merge_places,
    repeats,
)
from detect import DetectConfig, Detections, detect
from pipeline.groups import ObjectInspector, group_names, object_summary
from pipeline.inspector import Inspection, Inspector
from pipeline.model_folder import ModelFolder
from pipeline.object_calibration import ObjectCalibration, calibrate_objects, level
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.presets import DETECTION
from scene import InputError, Query
from train import train

SIZE = 64
FRONT = (1.0, 0.0, 0.0)
CORNERS = ((0.4, 0.4), (-0.4, 0.4), (0.4, -0.4), (-0.4, -0.4))  # places of the camera around FRONT
FLASHES = ((0.8, 0.6, 0.0), (0.8, -0.6, 0.0), (0.8, 0.0, 0.6), (0.8, 0.0, -0.6))
DARKNESS = 0.05  # of the defect and of each flash: what some good view also differs by


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball, trained for seconds, with 15 held-out views."""
    root, frames = tmp_path_factory.mktemp("data") / "Ball", []
    for number, pose in enumerate(orbit(60)):
        save_image(root / f"train/good/{number}.png", painted_ball(pose, SIZE))
        frames.append(frame(f"train/good/{number}.png", pose))
    write_transforms(root / "transforms.json", frames)
    out = tmp_path_factory.mktemp("out") / "Ball"
    return train(small(root, out, iterations=400, max_gaussians=3_000))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each object: a defect, flashes of the same darkness, a good one, one image."""
    root = tmp_path_factory.mktemp("parts")
    poses = [look_at([4.0 * x / math.hypot(1.0, y, z) for x in (1.0, y, z)]) for y, z in CORNERS]
    for number, (pose, flash) in enumerate(zip(poses, FLASHES, strict=True)):
        save_image(root / f"defect/{number}.png", painted_ball(pose, SIZE, FRONT, DARKNESS))
        save_image(root / f"flashes/{number}.png", painted_ball(pose, SIZE, flash, DARKNESS))
        save_image(root / f"plain/{number}.png", painted_ball(pose, SIZE))
    (root / "plain/broken.png").write_bytes(b"no image")
    save_image(root / "one/0.png", painted_ball(poses[0], SIZE, FRONT))
    return root


@pytest.fixture(scope="module")
def run(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Detections:
    output = tmp_path_factory.mktemp("detections")
    return detect(DetectConfig(model, images=images, output=output, group_by="folder"))


def objects_of(run: Detections) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in run.results["objects"]}


def test_a_defect_that_stays_is_flagged_and_flashes_that_move_are_not(run: Detections) -> None:
    objects = objects_of(run)
    assert objects["defect"]["is_anomalous"] is True
    assert objects["flashes"]["is_anomalous"] is False
    assert objects["plain"]["is_anomalous"] is False
    assert objects["defect"]["score"] > objects["flashes"]["score"] > objects["plain"]["score"]


def test_the_region_lies_where_the_defect_is(run: Detections) -> None:
    region = objects_of(run)["defect"]["regions"][0]
    assert math.dist(region["position"], [0.8 * x for x in FRONT]) < 0.15
    assert region["extent"] < 1.0
    assert region["n_seen"] == 4
    assert len(region["images"]) >= 2


def test_an_object_in_one_image_has_the_images_score_and_verdict(run: Detections) -> None:
    one = objects_of(run)["one"]
    image = next(each for each in run.results["images"] if each["name"] == "one/0")
    for name in ("score", "is_anomalous", "tail_probability"):
        assert one[name] == image[name]
    assert one["threshold"] == run.results["summary"]["threshold"]
    assert [r["position"] for r in one["regions"]] == [r["position"] for r in image["regions"]]


def test_images_that_do_not_count_are_named(run: Detections) -> None:
    plain = objects_of(run)["plain"]
    assert plain["images"] == [f"plain/{number}" for number in range(4)]
    assert [each["name"] for each in plain["refused"]] == ["plain/broken"]
    assert "broken.png" in plain["refused"][0]["reason"]


def test_four_images_of_one_side_show_about_half_of_the_ball(run: Detections) -> None:
    shares = {name: each["coverage"] for name, each in objects_of(run).items()}
    assert 0.15 < shares["one"] < 0.5
    assert shares["one"] < shares["plain"] < 0.75


def test_files_and_report_hold_the_objects(run: Detections) -> None:
    with open(run.folder / "objects.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["plain"]["n_images"] == "4"
    assert rows["plain"]["n_refused"] == "1"
    stored = json.loads((run.folder / "results.json").read_text())
    assert stored["objects"] == run.results["objects"]
    assert stored["object_summary"]["n_objects"] == 4
    message = objects_of(run)["defect"]["threshold_message"]
    assert "15 good views" in message
    page = (run.folder / "report.html").read_text()
    assert "<h2>Objects</h2>" in page
    assert "Does not count: <bdi>plain/broken</bdi>" in page


def test_an_untrusted_pose_does_not_count(model: Path, run: Detections) -> None:
    folder, settings = (
        ModelFolder(model),
        InspectionSettings(DETECTION["default"], torch.device("cpu")),
    )
    inspector = open_inspector(folder, settings)
    objects = ObjectInspector(inspector, calibrate_objects(inspector, folder), run.folder)
    entries = [each for each in run.results["images"] if each["name"].startswith("defect/")]
    queries = [Query(each["name"], Path(each["path"])) for each in entries]
    lost = [each | {"pose_ok": False} for each in entries]
    found = objects.inspect("defect", queries, [entries[0], *lost[1:]])
    assert found["images"] == ["defect/0"]
    assert {each["reason"] for each in found["refused"]} == {"the pose is not trusted"}
    assert found["score"] == entries[0]["score"]
    nothing = objects.inspect("defect", queries, lost)
    assert nothing["is_anomalous"] is None
    assert nothing["score"] is None
    assert nothing["note"] == "no image of it has a trusted pose"


def test_more_images_than_half_of_the_held_out_views_give_no_verdict(
    model: Path, images: Path
) -> None:
    folder, settings = (
        ModelFolder(model),
        InspectionSettings(DETECTION["default"], torch.device("cpu")),
    )
    calibration = calibrate_objects(open_inspector(folder, settings), folder)
    assert calibration.scores(7) is not None
    assert calibration.scores(8) is None


def test_an_interrupted_run_says_that_objects_are_scored_later(
    model: Path, images: Path, tmp_path: Path
) -> None:
    def inspect(self: Inspector, paths: Sequence[Path]) -> list[Inspection]:
        raise KeyboardInterrupt

    config = DetectConfig(model, images=images, output=tmp_path, group_by="folder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inspector, "inspect", inspect)
        with pytest.raises(KeyboardInterrupt) as caught:
            detect(config)
    assert "objects are not scored yet" in caught.value.__notes__[-1]
    partial = json.loads((tmp_path / "results_until_interrupted.json").read_text())
    assert "objects are not scored yet" in partial["settings"]["notes"][-1]
    assert "objects" not in partial
    assert not (tmp_path / "objects.csv").exists()


def test_held_out_views_are_raised_to_what_they_score_without_their_own_say() -> None:
    images = fit_score_distribution([2.0, 3.0, 4.0, 5.0, 8.0])
    views = [torch.tensor([peak, 1.0, math.nan]) for peak in (4.0, 1.0, 2.0, 6.0, 3.0)]
    raised = torch.stack(level(views, images))
    assert raised[:, 0].tolist() == [5.0, 2.0, 3.0, 8.0, 4.0]  # the same rank
    assert raised[:, 1].tolist() == pytest.approx([5 / 4, 2.0, 3 / 2, 8 / 6, 4 / 3], rel=1e-3)
    assert raised[:, 2].isnan().all()
    higher = [2.0 * view for view in views]  # than calibrated, as 4 of 5 are then: none is lowered
    assert torch.stack(level(higher, images))[:, 0].tolist() == [8.0, 2.0, 4.0, 12.0, 6.0]


def test_one_good_image_alone_passes_a_threshold_no_more_often_than_asked() -> None:
    images = fit_score_distribution([1.0 + 0.1 * number for number in range(20)])
    views = torch.stack([torch.linspace(0.1, peak, 50) for peak in images.scores]).half()
    tail = PlaceTail.fit(list(views), images)
    rotations = torch.stack([pose[:3, :3] for pose in orbit(20)])
    calibration = ObjectCalibration(torch.ones(50), views, rotations, tail)
    alike = fit_score_distribution([1.0] * 20)  # groups that know no flash
    for count, rate in ((3, 0.01), (9, 0.01), (5, 0.05)):
        threshold = calibration.threshold(alike, count, rate)
        flash = torch.linspace(1.0, 9.0, 2_000)
        usual = images.tail_probability(flash.numpy()) >= rate / count
        assert (tail.surprise(flash).numpy()[usual] <= threshold.value).all()
        assert usual.any()
        assert not usual.all()
        assert "Raised" in threshold.message
        assert calibration.tail_probability(alike, count, threshold.value) == pytest.approx(rate)
        high = fit_score_distribution([40.0] * 20)
        assert calibration.threshold(high, count, rate).value == high.threshold(rate).value
        assert "Raised" not in calibration.threshold(high, count, rate).message


def queries_called(*names: str) -> list[Query]:
    return [Query(name, Path("parts") / f"{name}.png") for name in names]


def test_names_of_objects() -> None:
    queries = queries_called("Burrs/7_0", "Burrs/7_1", "good/7_0", "loose")
    assert group_names(queries, "folder") == ["Burrs", "Burrs", "good", "parts"]
    assert group_names(queries, "(.*)_") == ["Burrs/7", "Burrs/7", "good/7", None]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(", "no regular expression"), ("a", "has 0 groups"), ("(a)(b)", "has 2 groups"),
     ("(xyz)", "matches none")],
)  # fmt: skip
def test_patterns_that_name_no_object_are_refused(pattern: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        group_names(queries_called("Burrs/7_0"), pattern)


def test_agreement_is_fishers_combination_of_those_that_see_a_place() -> None:
    nan = math.nan
    surprise = torch.tensor([[3.0, 3.0, nan], [3.0, nan, nan]])
    both = 6.0 - math.log(1.0 + 6.0)  # -log P(Gamma(2) >= 6)
    found = agreement(surprise, torch.eye(2))
    assert torch.allclose(found[:2], torch.tensor([both, 3.0]), atol=1e-5)
    assert found[2].isnan()


def test_the_same_image_twice_says_no_more_than_once() -> None:
    rotations = torch.stack([pose[:3, :3] for pose in orbit(9)[:2]])
    once, again = rotations[:1], rotations[[0, 0, 0]]
    surprise = torch.tensor([[2.0, 7.0]])
    alone = agreement(surprise, repeats(once))
    assert torch.allclose(agreement(surprise.expand(3, 2), repeats(again)), alone, atol=1e-4)
    assert (agreement(surprise.expand(2, 2), repeats(rotations)) > alone + 0.2).all()


def test_coverage_is_the_share_of_the_area() -> None:
    nan = math.nan
    evidence = torch.tensor([[1.0, nan, nan], [1.0, 2.0, nan]])
    assert coverage(evidence, torch.tensor([1.0, 2.0, 5.0])) == pytest.approx(3 / 8)


def test_flagged_gaussians_near_to_each_other_are_one_place() -> None:
    means = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [5.0, 0, 0], [0.3, 0, 0]])
    found = torch.tensor([4.0, 4.0, 8.0, 6.0, 1.0])
    first, second = merge_places(found, means, limit=3.0, reach=0.15)
    assert sorted(first.members.tolist()) == [0, 1, 2]
    assert first.peak == 2
    assert first.position[0] == pytest.approx((0.1 * 1 + 0.2 * 5) / 7, abs=1e-4)
    assert second.members.tolist() == [3]
    assert second.extent == 0.0


def test_the_auroc_of_objects_is_that_of_multiples_of_their_thresholds() -> None:
    objects = [
        {"score": score, "threshold": threshold, "is_anomalous": score > threshold}
        for score, threshold in ((5.0, 10.0), (2.0, 1.0), (9.0, 10.0))
    ]
    summary = object_summary(objects, [False, True, False])
    assert summary["object_auroc"] == 1.0
    assert (summary["n_false_alarms"], summary["n_defects_flagged"]) == (0, 1)
