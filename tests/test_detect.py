"""detect.py from a model folder to results, pictures and a report."""

import base64
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captures import ball_image, orbit, save_image, write_mad
from PIL import Image
from test_train import ITERATIONS, ROOT, small, tree_hash

from calibrate import CalibrateConfig, calibrate
from detect import DetectConfig, Detections, detect
from pipeline.inspector import Inspection, Inspector
from pipeline.model_folder import ModelFolder, camera_from_json
from scene import InputError, folder_lock
from train import train

IMAGE_KEYS = {
    "path", "label", "score", "tail_probability", "is_anomalous", "world_to_camera",
    "pose_ok", "pose_loss", "map", "seconds", "rotation_error_deg", "translation_error",
}  # fmt: skip
SUMMARY_KEYS = {
    "image_auroc", "pixel_auroc", "aupro", "n_images", "n_failed", "threshold", "pose", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball in MAD's format with three queries."""
    root = tmp_path_factory.mktemp("data") / "01Ball"
    return write_mad(root, views=24, labels={"good": 2, "Burrs": 1})


@pytest.fixture(scope="module")
def model(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the ball, trained for a moment."""
    return train(small(capture, tmp_path_factory.mktemp("out") / "Ball"))


@pytest.fixture(scope="module")
def run(capture: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Detections:
    """The data set's test split, judged."""
    before = tree_hash(capture)
    done = detect(DetectConfig(model, output=tmp_path_factory.mktemp("found")))
    assert tree_hash(capture) == before  # nothing is ever written into the input
    return done


def test_results_have_every_key_of_the_design(run: Detections) -> None:
    stored = json.loads((run.folder / "results.json").read_text())
    assert stored == json.loads(json.dumps(run.results))
    assert set(stored["summary"]) >= SUMMARY_KEYS
    assert set(stored["summary"]["seconds"]) == {"coarse", "refine", "score", "total"}
    assert stored["summary"]["n_images"] == 3
    assert stored["settings"]["used"]["matcher"] == "auto"
    assert stored["settings"]["commit"] is not None
    for image in stored["images"]:
        assert set(image) >= IMAGE_KEYS
        assert np.shape(image["world_to_camera"]) == (4, 4)
        assert image["rotation_error_deg"] is not None
        if image["pose_ok"] is not False:
            assert 0 <= image["tail_probability"] <= 1
    assert "held-out" in stored["summary"]["threshold_message"]
    with open(run.folder / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["good/0", "good/1", "Burrs/0"]
    assert float(rows[2]["score"]) == stored["images"][2]["score"]


def test_maps_overlays_and_report(run: Detections) -> None:
    for image in run.results["images"]:
        values = np.asarray(Image.open(run.folder / image["map"]))
        assert values.dtype == np.float32
        assert values.shape == (32, 32)
        assert float(values.max()) == pytest.approx(image["score"], rel=1e-5)
        assert Image.open(run.folder / f"overlays/{image['name']}.jpg").size == (128, 32)
    html = (run.folder / "report.html").read_text()
    assert html.count("<article ") == 3
    assert "http" not in html.replace("http://www.w3.org/", "")  # self-contained
    assert "held-out" in html  # where the threshold comes from


def test_what_is_ignored_is_neither_scored_nor_kept_quiet(
    capture: Path, model: Path, run: Detections, tmp_path: Path
) -> None:
    """The place that scored highest, behind a hand."""
    before = run.results["images"][2]
    values = np.asarray(Image.open(run.folder / before["map"]))
    row, column = np.unravel_index(values.argmax(), values.shape)
    hand = np.zeros(values.shape, np.uint8)
    hand[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5] = 255
    (tmp_path / "hands").mkdir()
    Image.fromarray(hand).save(tmp_path / "hands/0.png")
    config = DetectConfig(model, images=capture / "test/Burrs", output=tmp_path / "found",
                          ignore_masks=tmp_path / "hands")  # fmt: skip
    found = detect(config)
    entry = found.results["images"][0]
    values = np.asarray(Image.open(found.folder / entry["map"]))
    assert (values[hand > 0] == 0).all()
    assert entry["score"] == pytest.approx(float(values.max()), rel=1e-5)
    assert 0.02 < entry["not_inspected"] < 0.6
    assert before["not_inspected"] == 0
    assert "of the object was not inspected" in (found.folder / "report.html").read_text()


def test_an_object_cut_out_by_a_mask_scores_as_before_white(
    capture: Path, model: Path, run: Detections, tmp_path: Path
) -> None:
    """In a room, with the silhouette of what stood before white; one query has no mask."""
    for number in range(2):
        pixels = np.asarray(Image.open(capture / f"test/good/{number}.png").convert("RGB"))
        shown = (pixels < 250).any(axis=2)
        random = np.random.default_rng(number)
        room = random.integers(0, 255, pixels.shape, dtype=np.uint8)
        for folder, values in (("room", np.where(shown[..., None], pixels, room)),
                               ("masks", shown.astype(np.uint8) * 255)):  # fmt: skip
            (tmp_path / folder).mkdir(exist_ok=True)
            if folder == "room" or number == 0:
                Image.fromarray(values).save(tmp_path / folder / f"{number}.png")
    found = detect(DetectConfig(model, images=tmp_path / "room", output=tmp_path / "found",
                                masks=tmp_path / "masks"))  # fmt: skip
    cut, without = found.results["images"]
    assert cut["score"] == pytest.approx(run.results["images"][0]["score"], rel=0.3)
    assert "mask" in cut["background"]
    assert "has no mask" in without["error"]
    assert found.failures == [without["error"]]
    assert run.results["images"][0]["background"] == "plain, of one colour"


def test_the_report_carries_the_run_into_3d(run: Detections, model: Path) -> None:
    """The burr is where its map says, on the Gaussians and as a marker."""
    html = (run.folder / "report.html").read_text()
    text = html.split('<script type="application/json" id="scene">')[1].split("</script>")[0]
    scene = json.loads(text)
    assert [layer["name"] for layer in scene["layers"]] == ["heat", "count", "seen", "residual"]
    assert len(scene["train"]) == 18
    trusted = [image for image in run.results["images"] if image["pose_ok"] is not False]
    by_name = {image["name"]: image for image in scene["images"]}
    assert set(by_name) == {image["name"] for image in trusted}
    burr = next(image for image in trusted if image["name"] == "Burrs/0")
    assert burr["is_anomalous"]
    pose = list(np.ravel(burr["world_to_camera"])[:12])
    assert by_name["Burrs/0"]["pose"] == pytest.approx(pose, abs=1e-5)
    flagged = [m for m in scene["markers"] if m["title"].startswith("Burrs/0, peak")]
    assert len(flagged) == max(1, len(burr["regions"]))
    assert {scene["images"][marker["image"]]["name"] for marker in flagged} == {"Burrs/0"}
    values = np.asarray(Image.open(run.folder / burr["map"]))
    row, column = np.unravel_index(values.argmax(), values.shape)
    folder = ModelFolder(model)
    camera = camera_from_json(folder.load_config()["camera"]).at(
        torch.tensor(burr["world_to_camera"], dtype=torch.float64)
    )
    pairs = np.frombuffer(base64.b64decode(by_name["Burrs/0"]["heat"]), "<u4")
    hottest = torch.from_numpy((pairs & 0xFFFFFF)[(pairs >> 24) == (pairs >> 24).max()].astype(int))
    means = folder.load_gaussians(ITERATIONS).means[hottest].double()
    for places in (means, torch.tensor([flagged[0]["position"]], dtype=torch.float64)):
        x, y, _ = camera.project(places)
        distance = (x - column - 0.5).square() + (y - row - 0.5).square()
        assert float(distance.sqrt().min()) < 4  # pixels of 32
    assert len(hottest) < 0.25 * scene["count"]  # and nowhere else


def test_one_image_scores_as_in_a_batch(
    capture: Path, model: Path, run: Detections, tmp_path: Path
) -> None:
    config = DetectConfig(model, images=capture / "test/Burrs/0.png", output=tmp_path / "alone")
    alone = detect(config).results["images"]
    assert len(alone) == 1
    assert alone[0]["score"] == run.results["images"][2]["score"]
    assert alone[0]["label"] is None


def test_a_batch_inspects_as_one_by_one(
    capture: Path, model: Path, run: Detections, tmp_path: Path
) -> None:
    """On the CPU to the bit: poses are refined one after the other there."""
    together = detect(DetectConfig(model, output=tmp_path / "o", batch_size=3)).results
    assert together["settings"]["used"]["batch_size"] == 3
    assert run.results["settings"]["used"]["batch_size"] == 1
    for ours, alone in zip(together["images"], run.results["images"], strict=True):
        assert set(ours["seconds"]) == set(alone["seconds"])
        assert ours | {"seconds": None} == alone | {"seconds": None}
    summary, alone = together["summary"], run.results["summary"]
    assert summary | {"seconds": None} == alone | {"seconds": None}


def test_a_batch_reports_its_failures_file_by_file(
    capture: Path, model: Path, run: Detections, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(capture / "test/Burrs", folder)
    whole = (folder / "0.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    save_image(folder / "wide.png", Image.new("RGB", (64, 32), "white"))
    done = detect(DetectConfig(model, images=folder, output=tmp_path / "o", batch_size=3))
    by_name = {image["name"]: image for image in done.results["images"]}
    assert by_name["0"]["score"] == pytest.approx(run.results["images"][2]["score"], rel=1e-3)
    assert "broken.png" in by_name["broken"]["error"]
    assert "64 x 32" in by_name["wide"]["error"]
    assert len(done.failures) == 2


def test_unreadable_image_is_reported_and_the_others_go_on(
    capture: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    save_image(folder / "whole.png", ball_image(orbit(24)[3]))
    whole = (capture / "test/good/0.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    save_image(folder / "wide.png", Image.new("RGB", (64, 32), "white"))
    command = [sys.executable, "detect.py", "--model", str(model), "--images", str(folder),
               "-o", str(tmp_path / "found")]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert "wide.png' is 64 x 32" in done.stderr
    assert "Traceback" not in done.stderr
    stored = json.loads((tmp_path / "found/results.json").read_text())
    by_name = {image["name"]: image for image in stored["images"]}
    assert by_name["whole"]["score"] is not None
    assert by_name["broken"]["score"] is None
    assert "broken.png" in by_name["broken"]["error"]
    assert stored["summary"]["n_failed"] >= 2


def test_a_damaged_mask_costs_its_image_alone(
    capture: Path, model: Path, run: Detections, tmp_path: Path
) -> None:
    copy = shutil.copytree(capture, tmp_path / "01Ball")
    (copy / "ground_truth/Burrs/0_mask.png").write_bytes(b"half")
    done = detect(DetectConfig(model, images=copy, output=tmp_path / "o"))
    assert [image["score"] for image in done.results["images"][:2]] == [
        image["score"] for image in run.results["images"][:2]
    ]
    assert "0_mask.png is not an image" in done.results["images"][2]["error"]


def test_an_interrupted_run_reports_what_was_inspected(
    capture: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, seen = Inspector.inspect, []

    def inspect(self: Inspector, paths: Sequence[Path]) -> list[Inspection]:
        seen.append(paths)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return right(self, paths)

    monkeypatch.setattr(Inspector, "inspect", inspect)
    with pytest.raises(KeyboardInterrupt):
        detect(DetectConfig(model, output=tmp_path / "o"))
    assert not (tmp_path / "o/results.json").exists()  # benchmark.py would take it for whole
    stored = json.loads((tmp_path / "o/results_until_interrupted.json").read_text())
    assert [image["name"] for image in stored["images"]] == ["good/0", "good/1"]
    assert stored["settings"]["notes"][-1] == "interrupted after 2 of 3 images"
    assert "interrupted after 2 of 3 images" in (tmp_path / "o/report.html").read_text()


def test_results_have_one_writer_and_a_folder_of_their_own(model: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path, "-o"), pytest.raises(InputError, match="another folder with -o"):
        detect(DetectConfig(model, output=tmp_path))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"cannot write into '.*file'"):
        detect(DetectConfig(model, output=tmp_path / "file"))


def test_no_labels_gives_null_figures(capture: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(capture / "test/Burrs", folder)
    summary = detect(DetectConfig(model, images=folder, output=tmp_path / "o")).results["summary"]
    assert summary["image_auroc"] is None
    assert summary["pixel_auroc"] is None
    assert "pose" not in summary
    assert summary["threshold"] is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": Path("nowhere")}, "no model folder at 'nowhere'.*train"),
        ({"images": Path("nowhere.png")}, "nowhere.png"),
        ({"steps": 0}, "--steps"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"false_alarm_rate": 1.5}, "--false-alarm-rate must lie between 0 and 1"),
    ],
)
def test_wrong_settings_are_refused(
    model: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        detect(replace(DetectConfig(model, output=tmp_path), **changes))


def test_damaged_model_folders_are_named(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    folder = ModelFolder(copy)
    config = json.loads(folder.config_path.read_text())
    folder.point_cloud_path(ITERATIONS).write_bytes(b"ply\n")
    with pytest.raises(InputError, match=r"point_cloud.ply is truncated .*train.py .*--overwrite"):
        detect(DetectConfig(copy, output=tmp_path / "o"))
    for missing in ("settings", "camera", "background", "name"):
        rest = {key: value for key, value in config.items() if key != missing}
        folder.config_path.write_text(json.dumps(rest))
        with pytest.raises(InputError, match=rf"config.json is damaged \('{missing}' is missing"):
            detect(DetectConfig(copy, output=tmp_path / "o"))
    folder.config_path.write_text("[]")
    with pytest.raises(InputError, match=r"config.json is damaged"):
        detect(DetectConfig(copy, output=tmp_path / "o"))
    folder.config_path.write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(InputError, match="has format 99"):
        detect(DetectConfig(copy, output=tmp_path / "o"))


def test_an_older_calibration_is_renewed_by_calibrate(
    capture: Path, model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    folder = ModelFolder(copy)
    stored = json.loads(folder.calibration_path.read_text())
    folder.calibration_path.write_text(json.dumps(stored | {"version": 1}))
    with pytest.raises(InputError, match=r"another version .*: run python calibrate.py --model"):
        detect(DetectConfig(copy, output=tmp_path / "o"))
    trained = folder.point_cloud_path(ITERATIONS).read_bytes()
    calibrate(CalibrateConfig(copy))
    assert json.loads(folder.calibration_path.read_text()) == stored
    assert folder.point_cloud_path(ITERATIONS).read_bytes() == trained
    assert detect(DetectConfig(copy, output=tmp_path / "o")).failures == []


@pytest.mark.parametrize(
    "name", ["gallery.npz", "normal_model.npz", "calibration_views.npz", "calibration.json"]
)
def test_one_flipped_bit_is_found_and_training_again_renews_it(
    capture: Path, model: Path, tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 3] ^= 64
    (copy / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*calibrate.py --model"):
        detect(DetectConfig(copy, output=tmp_path / "o"))
    train(small(capture, copy))
    for renewed in ("calibration.json", name):
        assert (copy / renewed).read_bytes() == (model / renewed).read_bytes()


def test_paper_preset_names_the_missing_weights(model: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    config = DetectConfig(model, preset="paper", weights=weights, output=tmp_path / "o")
    with pytest.raises(InputError) as caught:
        detect(config)
    words = str(caught.value)
    assert str(weights) in words
    assert "http" in words  # where to get them


def test_surroundings_that_the_model_does_not_know_are_named(
    capture: Path, model: Path, tmp_path: Path
) -> None:
    shots = sorted((capture / "test/good").glob("*.png"))
    image = np.asarray(Image.open(shots[0]).convert("RGB"))
    texture = np.random.default_rng(3).integers(0, 256, image.shape, dtype=np.uint8)
    (tmp_path / "shots").mkdir()
    empty = (image > 250).all(axis=2, keepdims=True)
    Image.fromarray(np.where(empty, texture, image)).save(tmp_path / "shots/room.png")
    shutil.copy(shots[0], tmp_path / "shots/plain.png")
    done = detect(DetectConfig(model, images=tmp_path / "shots", output=tmp_path / "found"))
    plain, room = done.results["images"]
    assert plain["background"] == "plain, of one colour"
    assert room["error"] is not None or room["background"].startswith("unknown")
    assert room["is_anomalous"] is None or room["pose_ok"]


def test_an_image_of_one_colour_is_an_error_and_not_a_good_part(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "shots").mkdir()
    Image.new("RGB", (32, 32), "black").save(tmp_path / "shots/black.png")
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "shots/empty.png")
    done = detect(DetectConfig(model, images=tmp_path / "shots", output=tmp_path / "found"))
    assert len(done.failures) == 2
    assert all("a single colour and no object" in sentence for sentence in done.failures)
