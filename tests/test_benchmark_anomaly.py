"""The benchmarks of the anomaly map run from end to end on a small ball and write their figures."""

from pathlib import Path

import pytest
from captures import write_mad
from small_training import small

from benchmarks import anomaly, painted_defects
from benchmarks.disturbances import LIGHTS
from scene import InputError, read_json
from train import train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated model of a ball."""
    root = tmp_path_factory.mktemp("ball")
    return train(small(write_mad(root / "data", views=24), root / "model"))


def test_ablation_has_a_row_for_every_map_and_images_of_the_worst(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = anomaly.AblationConfig((model,), tmp_path / "a.json", tmp_path / "worst")
    anomaly.main(config)
    document = read_json(tmp_path / "a.json")
    assert document["commit"]
    figures = document["models"][str(model)]
    assert [row["poses"] for row in figures["rows"]] == 8 * ["true"] + 8 * ["estimated"]
    assert figures["rows"][-1]["map"] == anomaly.DEFAULT
    assert figures["rows"][-1]["n_good"] == 2
    assert all(0 <= row["image_auroc"] <= 1 for row in figures["rows"])
    assert figures["good_over_held_out"] > 0
    names = sorted(path.name for path in (tmp_path / "worst" / "model").iterdir())
    assert names == ["false_alarm.jpg", "miss_Burrs.jpg"]
    assert capsys.readouterr().out.count("| RGB | true |") == 1


def test_painted_defects_are_counted_by_kind_and_light(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = painted_defects.PaintedConfig((model,), tmp_path / "p.json", 1, 2)
    painted_defects.main(config)
    document = read_json(tmp_path / "p.json")
    kinds = [*(kind.name for kind in painted_defects.KINDS), "all"]
    assert [row["kind"] for row in document["rows"]] == 2 * kinds
    assert all(0 <= row["auroc"] <= 1 and 0 <= row["found"] <= 1 for row in document["rows"])
    (alarms,) = document["false_alarms"].values()
    assert len(alarms) == 1 + 2 * len(LIGHTS)
    assert alarms["views"] == 6
    assert "| model | held-out |" in capsys.readouterr().out


def test_model_without_calibration_is_refused(tmp_path: Path) -> None:
    source = write_mad(tmp_path / "data", views=12)
    bare = train(small(source, tmp_path / "bare", holdout_every=0, iterations=20))
    with pytest.raises(InputError, match="has no calibration: train it with held-out views"):
        painted_defects.measure(bare, painted_defects.PaintedConfig((bare,)))
