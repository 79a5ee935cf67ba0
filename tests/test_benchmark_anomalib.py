"""Baselines of anomalib, with the package itself where it is installed; else without it."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_workers import TINY
from captures import write_mad

from benchmarks.paper import anomalib_baselines
from benchmarks.paper.anomalib_baselines import run_anomalib, summarise
from benchmarks.paper.job import Worker
from benchmarks.paper.plan import BASELINES, Job
from benchmarks.paper.results import Results
from benchmarks.paper.tables import table_1
from scene import InputError, read_capture

IS_INSTALLED = importlib.util.find_spec("anomalib") is not None


@pytest.mark.skipif(not IS_INSTALLED, reason="anomalib is optional: pip install .[anomalib]")
@pytest.mark.parametrize("method", ["anomalib-padim", "anomalib-patchcore"])
def test_baseline_becomes_a_row_of_the_tables(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomalib.models import get_model

    def without_download(name: str) -> Any:  # random weights
        parts = {"post_processor": False, "evaluator": False, "visualizer": False}
        return get_model(name, pre_trained=False, **parts)

    monkeypatch.setattr(anomalib_baselines, "_model", without_download)
    source = write_mad(tmp_path / "Ball", views=8, labels={"good": 2, "Burrs": 2})
    job = Job("Ball", str(source), method, 0, 0.5)
    assert job.method in BASELINES
    outcome = Worker(TINY, str(tmp_path))(job)
    assert (outcome.state, outcome.message) == ("done", "")
    results = Results.load([job], tmp_path)
    assert len(results.views[job.id]) == 4
    (row,) = results.detections.to_dict("records")
    assert row["images"] == 4
    assert 0 <= row["AUPRO"] <= 100
    assert row["notes"].startswith("anomalib ")
    assert list(table_1(results.detections).frame)[:2] == ["class", method]


def test_figures_of_a_baseline_come_from_our_metrics(tmp_path: Path) -> None:
    capture = read_capture(write_mad(tmp_path / "Ball", labels={"good": 2, "Burrs": 2}))
    labels = [query.is_anomalous for query in capture.queries]
    scores = [1.0 if is_anomalous else 0.5 for is_anomalous in labels]
    camera = capture.views[0].camera
    flat = [np.zeros((camera.height, camera.width), np.float32)] * len(scores)
    figures = summarise(capture, scores, flat, 0.1)
    assert figures["image_auroc"] == 1.0
    assert figures["pixel_auroc"] == 0.5  # a flat map knows nothing
    assert figures["n_images"] == 4
    assert figures["seconds"]["total"] == 0.1
    assert summarise(capture, scores, [], 0.1)["pixel_auroc"] is None


@pytest.mark.skipif(IS_INSTALLED, reason="anomalib is installed")
def test_without_anomalib_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pip install \.\[anomalib\]"):
        run_anomalib(Job("Ball", str(tmp_path), "anomalib-padim", 0, 1.0), TINY)
