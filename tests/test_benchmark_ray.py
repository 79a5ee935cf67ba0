"""The same jobs on a Ray cluster of this machine: a head and two workers, one of them killed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_workers import TINY, KilledOnce
from captures import write_mad
from test_benchmark_run import image_scores

from benchmarks.paper.job import Worker
from benchmarks.paper.plan import Job, Variant
from benchmarks.paper.run import Engine, run_on_ray
from scene import InputError

TESTS = Path(__file__).parent


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs and two machines with one each, on the loopback interface alone."""
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # as benchmarks/paper/run.py does
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
    """Two trainings of a ball."""
    source = write_mad(root / "Ball", views=24, labels={"good": 1, "Burrs": 1})
    return [
        Job("Ball", str(source), "splatpose-default", seed, 0.5, (Variant("adam", 2),))
        for seed in (0, 1)
    ]


def test_cluster_loses_nothing_and_agrees_with_local_processes(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = small_jobs(tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    for job in jobs:
        assert Worker(TINY, str(here))(job).state == "done"
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)  # for the worker that dies
    worker = KilledOnce(TINY, str(there))
    outcomes = list(run_on_ray(jobs, worker, Engine("ray", 1, 3, cluster.address)))
    ends = sorted((outcome.id, outcome.state, outcome.message) for outcome in outcomes)
    assert ends == sorted((job.id, "done", "") for job in jobs)
    for job in jobs:
        assert (there / job.id / "killed").exists()
        assert "resumed at iteration" in (there / job.id / "log.txt").read_text()
        assert image_scores(there, job) == image_scores(here, job)


def test_missing_cluster_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an optional extra: pip install .[ray]")
    worker = Worker(TINY, str(tmp_path))
    with pytest.raises(InputError, match=r"no Ray cluster answers at '127\.0\.0\.1:1'"):
        list(run_on_ray(small_jobs(tmp_path), worker, Engine("ray", 1, 1, "127.0.0.1:1")))


def test_without_ray_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    worker = Worker(TINY, str(tmp_path))
    with pytest.raises(InputError, match=r"pip install \.\[ray\]"):
        list(run_on_ray([], worker, Engine("ray", 1, 1)))
