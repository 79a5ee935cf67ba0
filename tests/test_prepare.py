"""prepare.py from photographs to a capture, where structure from motion is given the true poses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import prepare as script
from benchmarks.synthetic.capture import make_capture
from benchmarks.synthetic.config import SyntheticConfig
from preparation import sfm
from preparation.given_masks import given_masks
from preparation.photographs import Photograph
from prepare import PrepareConfig, prepare
from scene import InputError, read_capture, read_json

VIEWS, SIZE = 20, 176


def true_model(truth: Path, photographs: list[Photograph]) -> sfm.SparseModel:
    """Poses of the generator for all but one, and points on the table and around the object."""
    frames = read_json(truth / "transforms.json")["frames"]
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    poses = {
        Path(frame["file_path"]).stem: np.linalg.inv(np.array(frame["transform_matrix"]) @ flip)
        for frame in frames
    }
    focal = 0.5 * SIZE / np.tan(0.5 * 0.6911111611634243)
    lens = sfm.Lens(SIZE, SIZE, focal, focal, SIZE / 2, SIZE / 2, (0.0, 0.0, 0.0, 0.0))
    random = np.random.default_rng(0)
    table = np.column_stack([random.uniform(-1.8, 1.8, (1500, 2)), np.full(1500, -0.576)])
    thing = random.normal(scale=0.3, size=(800, 3))
    points = np.concatenate([table, thing[thing[:, 2] > -0.576 + 0.03]])
    placed = {one.name: poses[Path(one.source).stem] for one in photographs[1:]}
    colours = np.full((len(points), 3), 128, np.uint8)
    return sfm.SparseModel({"wide": lens}, placed, points, colours, 0.3, "given", [VIEWS - 1])


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vehicle on a table in a room."""
    return make_capture(SyntheticConfig(
        tmp_path_factory.mktemp("prepare") / "vehicle", seed=1, blueprint="vehicle",
        surroundings="room", rig="upper", size=SIZE, views=VIEWS, queries=0, masks=True, workers=1,
    ))  # fmt: skip


def test_photographs_become_a_capture_with_masks_and_a_second_run_does_nothing(
    truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script.sfm, "require_pycolmap", lambda: None)
    monkeypatch.setattr(
        script.sfm, "reconstruct", lambda photographs, *rest: true_model(truth, photographs)
    )
    source = truth / "train" / "good"
    before = {path: path.read_bytes() for path in source.iterdir()}
    out = prepare(PrepareConfig(source, tmp_path / "out", scale=120.0))
    capture = read_capture(out)
    assert len(capture.views) == VIEWS - 1
    agreement = []
    for view in capture.views:
        name = Path(view.name).stem.partition("_")[2]
        alpha = np.asarray(Image.open(view.image_path))[..., 3] > 127
        true = np.asarray(Image.open(truth / "masks/train/good" / f"{name}.png")) > 127
        agreement.append((alpha & true).sum() / (alpha | true).sum())
        photograph = np.asarray(Image.open(source / f"{name}.png")).astype(int)
        shown = np.asarray(Image.open(view.image_path))[..., :3]
        assert np.abs(shown - photograph).mean() < 4  # also where alpha is 0
    assert np.median(agreement) > 0.9
    report = read_json(out / "prepare.json")
    assert report["missing"] == {"0.png": "too little overlap with the others"}
    assert report["scale"]["unit"] == "the longest side is 120"
    distances = [float(view.camera.centre.norm()) * capture.world.unit for view in capture.views]
    longest = 120 / np.median(distances) * 3.85  # in the generator's units
    assert 1.2 < longest < 2.0
    with Image.open(out / "overview.jpg") as sheet:
        assert sheet.width == 1800
    capsys.readouterr()
    prepare(PrepareConfig(source, tmp_path / "out", scale=120.0))
    assert capsys.readouterr().out.count("done already") == 7
    assert {path: path.read_bytes() for path in source.iterdir()} == before


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"scale": float("inf")}, "--scale must lie between"),
        ({"cut": (0.0, 0.0, 0.0, float("nan"), 1.0, 1.0)}, "--cut takes six finite numbers"),
        ({"keep_box": (1.0, 0.0, 0.0, 0.0, 1.0, 1.0)}, "--keep-box takes six finite numbers"),
    ],
)
def test_values_that_make_no_sense_are_refused_at_once(
    tmp_path: Path, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        prepare(PrepareConfig(tmp_path, tmp_path.parent / "out", **values))


def test_nothing_of_the_users_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.sfm, "require_pycolmap", lambda: None)
    source = tmp_path / "object/train/good"
    source.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(source / "0.png")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="holds the photographs"):
        prepare(PrepareConfig(source, tmp_path / "object"))
    (tmp_path / "photographs").mkdir()
    with pytest.raises(InputError, match=r"something that prepare\.py did not make"):
        prepare(PrepareConfig(tmp_path / "photographs", tmp_path / "object"))
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "photographs"]


def test_masks_of_another_shape_or_without_an_object_are_refused(tmp_path: Path) -> None:
    photograph = Photograph("0000_a", "a.jpg", "wide", 60, 40, None, 0.5)
    posed = SimpleNamespace(names=["0000_a"], pinholes=[SimpleNamespace(image=lambda m, **_: m)])
    for size, sentence in (((40, 60), "masks need the shape"), ((60, 40), "The masks are empty")):
        Image.new("L", size).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=sentence):
            given_masks(tmp_path, tmp_path, [photograph], posed)  # type: ignore[arg-type]
