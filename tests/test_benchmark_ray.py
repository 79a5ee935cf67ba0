"""The same jobs on a Ray cluster of this machine: a head and two workers, one of them killed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_workers import TINY, KilledOnce
from captures import write_mad
from test_benchmark_run import image_scores

from benchmarks.paper.jobs import Job, Variant, results_path
from benchmarks.paper.on_ray import run_on_ray
from benchmarks.paper.work import Worker
from scene import InputError, read_json

TESTS = Path(__file__).parent


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs and two machines with one each, on the loopback interface alone."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # as grid/on_ray.py does
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install .[ray]")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    local = {"node_ip_address": "127.0.0.1", "object_store_memory": 80_000_000}
    head = {"num_cpus": 0, "include_dashboard": False, **local}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=1, **local)
    yield made
    made.shutdown()


def small_jobs(root: Path) -> list[Job]:
    """Two trainings and a peer of a ball."""
    source = write_mad(root / "Ball", views=24, labels={"good": 1, "Burrs": 1})
    ours = [
        Job("Ball", str(source), "splatpose-default", seed, 0.5, (Variant("adam", 2),))
        for seed in (0, 1)
    ]
    return [*ours, Job("Ball", str(source), "patchcore", 0, 0.5)]


def test_cluster_loses_nothing_and_agrees_with_local_processes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = small_jobs(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    for job in jobs:
        assert Worker(TINY, str(here))(job).state == "done"
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)  # for the worker that dies
    worker = KilledOnce(TINY, str(there))
    outcomes = list(run_on_ray(jobs, worker, cluster.address, 0, 3, lambda: None))
    ends = sorted((outcome.id, outcome.state, outcome.words) for outcome in outcomes)
    assert ends == sorted((job.id, "done", "") for job in jobs)
    for job in jobs[:2]:
        assert (there / job.id / "killed").exists()
        assert "resumed at iteration" in (there / job.id / "log.txt").read_text()
        assert image_scores(there, job) == image_scores(here, job)
    figures = [
        read_json(results_path(jobs[2], root))["detections"]["own"] for root in (here, there)
    ]
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        assert figures[0][name] == figures[1][name]


def test_missing_cluster_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install .[ray]")
    worker = Worker(TINY, str(tmp_path))
    with pytest.raises(InputError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        list(run_on_ray(small_jobs(tmp_path)[:1], worker, "127.0.0.1:1", 0, 1, lambda: None))


def test_without_ray_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    worker = Worker(TINY, str(tmp_path))
    with pytest.raises(InputError, match=r"pip install \.\[ray\]"):
        list(run_on_ray([], worker, None, 0, 1, lambda: None))
