"""The anomalib adapter against a stand-in for anomalib's public interface (as of 2.7).

It checks the adapter, not anomalib: that needs torchvision and downloads, and is not run here.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from benchmark_workers import TINY
from captures import write_mad

from benchmarks.paper.anomalib_peers import run_anomalib
from benchmarks.paper.jobs import PEERS, Job
from benchmarks.paper.records import load_records
from benchmarks.paper.tables import table_1, table_2
from benchmarks.paper.work import Worker
from scene import InputError, read_image


class Model:
    """A model that knows the mean picture."""

    mean: torch.Tensor


class Folder:
    """The data module: only the arguments that matter are read."""

    def __init__(self, name: str, root: Path, normal_dir: str, **options: Any) -> None:
        assert options["test_split_mode"] == options["val_split_mode"] == "none"
        self.paths = sorted((Path(root) / normal_dir).glob("*.png"))


class PredictDataset:
    """Pictures of a folder, in no particular order."""

    def __init__(self, path: Path) -> None:
        self.paths = sorted(path.glob("*.png"), reverse=True)


class Engine:
    """Trains and predicts in batches of two."""

    options: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        Engine.options = options

    def fit(self, model: Model, datamodule: Folder) -> None:
        """Takes the mean of the train pictures."""
        model.mean = torch.stack([read_image(path) for path in datamodule.paths]).mean(0)

    def predict(
        self, model: Model, dataset: PredictDataset, return_predictions: bool
    ) -> list[SimpleNamespace]:
        """Differences to the mean, at half the size, as [B, 1, h, w]."""
        assert return_predictions
        batches = []
        for start in range(0, len(dataset.paths), 2):
            paths = dataset.paths[start : start + 2]
            offsets = torch.stack([(read_image(p) - model.mean).abs().mean(0) for p in paths])
            maps = torch.nn.functional.avg_pool2d(offsets[:, None], 2)
            batches.append(
                SimpleNamespace(
                    image_path=[str(p) for p in paths],
                    pred_score=maps.amax((1, 2, 3)),
                    anomaly_map=maps,
                )
            )
        return batches


@pytest.fixture
def anomalib(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stand-in; returns the names of the models that were asked for."""
    asked: list[str] = []

    def get_model(name: str, **components: bool) -> Model:
        assert components == {"post_processor": False, "evaluator": False, "visualizer": False}
        asked.append(name)
        return Model()

    contents = {
        "anomalib": {"__version__": "2.7.0"},
        "anomalib.data": {"Folder": Folder, "PredictDataset": PredictDataset},
        "anomalib.engine": {"Engine": Engine},
        "anomalib.models": {"get_model": get_model},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_model_of_anomalib_is_judged_by_our_metrics(anomalib: list[str], tmp_path: Path) -> None:
    source = write_mad(tmp_path / "Ball", views=8, labels={"good": 2, "Burrs": 2})
    job = Job("Ball", str(source), "anomalib-reverse_distillation", 0, 0.5)
    found = run_anomalib(job, TINY)
    assert anomalib == ["reverse_distillation"]
    assert Engine.options["accelerator"] == "cpu"
    assert len(found["views"]) == 4
    own = found["detections"]["own"]
    # The first two "defective" pictures are the first two good ones: every score ties.
    assert own["n_images"] == 4
    assert own["image_auroc"] == 0.5
    assert 0 <= own["aupro"] <= 1
    assert own["remarks"][0] == "anomalib 2.7.0"


def test_job_and_tables_take_it_like_any_peer(anomalib: list[str], tmp_path: Path) -> None:
    source = write_mad(tmp_path / "Ball", views=8, labels={"good": 1, "Burrs": 1})
    job = Job("Ball", str(source), "anomalib-patchcore", 0, 1.0)
    assert job.method in PEERS
    assert Worker(TINY, str(tmp_path))(job).state == "done"
    assert job.is_finished(tmp_path)
    records = load_records([job], tmp_path)
    (row, _) = table_2(records).rows
    assert row[-2:] == [74.9, 83.7]  # the paper's PatchCore
    assert [column.heading for column in table_1(records).columns][:2] == ["class", job.method]
    assert table_1(records).columns[-1].heading == "patchcore (paper)"


@pytest.mark.skipif(
    importlib.util.find_spec("anomalib") is not None, reason="anomalib is installed"
)
def test_without_anomalib_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pip install \.\[anomalib\].*padim, patchcore"):
        run_anomalib(Job("Ball", str(tmp_path), "anomalib-padim", 0, 1.0), TINY)
