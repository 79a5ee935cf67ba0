"""Every file of a model folder damaged, lost or replaced: one sentence, whose command fixes it."""

import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro
from captures import ball_image, orbit, save_image, write_mad
from small_training import ITERATIONS, point_cloud, small

from calibrate import CalibrateConfig, calibrate
from detect import DetectConfig, detect
from pipeline.model_folder import ModelFolder
from pipeline.remedies import LEARN_AGAIN
from pipeline.seals import sealed
from scene import InputError
from train import TrainConfig, train

DERIVED = ("gallery.npz", "normal_model.npz", "calibration_views.npz", "calibration.json")
CLOUD = f"point_cloud/iteration_{ITERATIONS}/point_cloud.ply"


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball seen from 24 sides, with one query."""
    return write_mad(tmp_path_factory.mktemp("data") / "01 Ball", 24, {"good": 1})


@pytest.fixture(scope="module")
def model(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of it."""
    return train(small(capture, tmp_path_factory.mktemp("out") / "Ball"))


def flip(path: Path) -> None:
    """One bit, in the sign or exponent of a number where it is a PLY."""
    content = bytearray(path.read_bytes())
    content[2 * len(content) // 3] ^= 64
    path.write_bytes(content)


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def obey(sentence: str) -> str:
    """Runs the command that a sentence ends in; the script's name."""
    found = re.search(r"python (calibrate|train)\.py (.*?)\.?$", sentence)
    assert found, sentence
    arguments = shlex.split(found[2])
    if found[1] == "calibrate":
        calibrate(tyro.cli(CalibrateConfig, args=arguments))
    else:
        train(tyro.cli(TrainConfig, args=arguments))
    return found[1]


@pytest.mark.parametrize("damage", [flip, lose, cut, replace_by_folder])
@pytest.mark.parametrize("name", [*DERIVED, CLOUD])
def test_the_sentence_of_detect_names_the_command_that_fixes_it(
    model: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    copy = shutil.copytree(model, tmp_path / "a model")
    damage(copy / name)
    query = DetectConfig(copy, output=tmp_path / "o")
    with pytest.raises(InputError) as caught:
        detect(query)
    if (copy / name).is_dir():
        assert "move it away" in str(caught.value)
        (copy / name).rmdir()
        if name == CLOUD:
            with pytest.raises(InputError) as caught:
                detect(query)
    script = obey(str(caught.value).replace(", or drop", " #"))
    assert detect(query).failures == []
    if name != CLOUD or script == "train":
        for renewed in (*DERIVED, CLOUD):
            assert (copy / renewed).read_bytes() == (model / renewed).read_bytes()


@pytest.mark.parametrize("damage", [lose, cut])
def test_a_lost_point_cloud_is_no_finished_run(
    capture: Path, model: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    damage(copy / CLOUD)
    for script in (
        lambda: train(small(capture, copy)),
        lambda: calibrate(CalibrateConfig(copy)),
    ):
        with pytest.raises(InputError, match=r"run python train.py .* --overwrite"):
            script()


@pytest.mark.parametrize(
    "change",
    [
        *({"without": name} for name in ("views", "held_out", "camera", "settings", "sha256x")),
        {"views": "all"}, {"held_out": [1]}, {"background": [9, 9, 9]}, {"white": 0.5},
        *({"setting": name} for name in ("iterations", "seed", "sh_degree", "max_gaussians")),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_were_edited_are_one_sentence_in_every_script(
    capture: Path, model: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    path = ModelFolder(copy).config_path
    config = json.loads(path.read_text())
    if "without" in change:
        config.pop(str(change["without"]), None)
    elif "setting" in change:
        config["settings"].pop(str(change["setting"]))
    else:
        config |= change
    path.write_text(json.dumps(config))
    if change == {"without": "sha256x"}:  # no change at all
        assert detect(DetectConfig(copy, output=tmp_path / "o")).failures == []
        return
    for script in (
        lambda: detect(DetectConfig(copy, output=tmp_path / "o")),
        lambda: calibrate(CalibrateConfig(copy)),
        lambda: train(small(capture, copy)),
    ):
        with pytest.raises(InputError, match=r"config.json is damaged .*--overwrite"):
            script()
    if "views" in change.values():
        train(small(capture, copy, overwrite=True))
        assert point_cloud(copy) == point_cloud(model)


def test_settings_that_are_a_folder_are_named_before_anything_is_trained(
    capture: Path, model: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    replace_by_folder(ModelFolder(copy).config_path)
    for script in (
        lambda: detect(DetectConfig(copy, output=tmp_path / "o")),
        lambda: calibrate(CalibrateConfig(copy)),
        lambda: train(small(capture, copy)),
    ):
        with pytest.raises(InputError, match=f"config.json' is a folder.*{LEARN_AGAIN}"):
            script()


@pytest.mark.parametrize("value", [0.5, 1e300, float("nan"), float("inf"), "1", None])
def test_an_edited_threshold_never_passes(model: Path, tmp_path: Path, value: object) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    path = ModelFolder(copy).calibration_path
    stored = json.loads(path.read_text())
    stored["scores"]["residual"]["scores"][-1] = value
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"calibration.json is damaged .*calibrate.py"):
        detect(DetectConfig(copy, output=tmp_path / "o"))
    if value is None or not math.isfinite(float(str(value))):  # nor when it is sealed again
        path.write_text(json.dumps(sealed(stored)))
        with pytest.raises(InputError, match=r"calibration.json is damaged"):
            detect(DetectConfig(copy, output=tmp_path / "o"))


def test_a_calibration_without_a_seal_is_still_read(model: Path, tmp_path: Path) -> None:
    """As the version before wrote it."""
    copy = shutil.copytree(model, tmp_path / "model")
    path = ModelFolder(copy).calibration_path
    stored = json.loads(path.read_text())
    older = {k: v for k, v in stored.items() if k not in ("sha256", "good", "pooled")}
    path.write_text(json.dumps(older | {"version": 5}))
    assert detect(DetectConfig(copy, output=tmp_path / "o")).failures == []
    path.write_text(json.dumps(older))
    with pytest.raises(InputError, match=r"calibration.json is damaged"):
        detect(DetectConfig(copy, output=tmp_path / "o"))


def test_photographs_and_folds_are_not_forgotten(
    capture: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    good = tmp_path / "good parts"
    for number, pose in enumerate(orbit(17)[1:9]):
        save_image(good / f"{number}.png", ball_image(pose))
    calibrate(CalibrateConfig(copy, folds=2, good=good))
    stands = ModelFolder(copy).load_calibration(ITERATIONS)
    assert (stands.scores["residual"].models, stands.scores["residual"].photographs) == (2, 8)
    for damage in (None, ("gallery.npz", flip), ("calibration_views.npz", cut)):
        if damage:
            damage[1](copy / damage[0])
            with pytest.raises(InputError, match="--without-good"):
                train(small(capture, copy))
        with pytest.raises(InputError, match=r"photographs of good parts too: .*--without-good"):
            calibrate(CalibrateConfig(copy))
    with pytest.raises(InputError) as caught:
        detect(DetectConfig(copy, output=tmp_path / "o"))
    capsys.readouterr()
    obey(str(caught.value))
    assert "fold 1 of 2" not in capsys.readouterr().out  # their scores are kept
    assert ModelFolder(copy).load_calibration(ITERATIONS) == stands
    calibrate(CalibrateConfig(copy, without_good=True))
    kept = ModelFolder(copy).load_calibration(ITERATIONS)
    assert (kept.scores["residual"].models, kept.scores["residual"].photographs) == (2, 0)
    assert kept.good == ""
    calibrate(CalibrateConfig(copy, folds=0))
    assert ModelFolder(copy).load_calibration(ITERATIONS).scores["residual"].models == 1
    flip(copy / "calibration.json")
    calibrate(CalibrateConfig(copy))


def test_nothing_is_written_into_the_folder_of_good_photographs(
    model: Path, tmp_path: Path
) -> None:
    station = tmp_path / "station"
    copy = shutil.copytree(model, station / "model")
    save_image(station / "0.png", ball_image(orbit(17)[1]))
    with pytest.raises(InputError, match=r"lies in .*, which is read and never written into"):
        calibrate(CalibrateConfig(copy, good=station))
