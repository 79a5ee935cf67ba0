"""The Slurm engine over submitit's local processes: the same code, without a cluster."""

import os
import sys
from pathlib import Path

import pytest
from benchmark_workers import TINY, AlwaysDies, KilledOnce
from captures import write_mad
from test_benchmark_run import image_scores

from benchmarks.paper import on_slurm
from benchmarks.paper.jobs import Job, Variant
from benchmarks.paper.on_slurm import run_on_slurm
from benchmarks.paper.work import Outcome, Worker
from scene import InputError

TESTS = Path(__file__).parent


def run_here(jobs: list[Job], worker: Worker, attempts: int) -> list[Outcome]:
    """Runs jobs through submitit on this machine."""
    options = ("partition=none", "time=5")  # its local executor ignores what is Slurm's
    run = run_on_slurm(jobs, worker, options, 0, 2, attempts, lambda: None, cluster="local")
    return sorted(run, key=lambda outcome: outcome.id)


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submitit, whose processes find the workers of the tests."""
    pytest.importorskip("submitit", reason="submitit is an optional extra: pip install .[slurm]")
    monkeypatch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
    monkeypatch.setattr(on_slurm, "TICK", 0.1)


@pytest.mark.usefixtures("submitit")
def test_killed_job_is_submitted_again_and_agrees_with_a_plain_process(tmp_path: Path) -> None:
    source = write_mad(tmp_path / "Ball", views=24, labels={"good": 1, "Burrs": 1})
    job = Job("Ball", str(source), "splatpose-default", 0, 0.5, (Variant("adam", 2),))
    here, there = tmp_path / "here", tmp_path / "there"
    assert Worker(TINY, str(here))(job).state == "done"
    (outcome,) = run_here([job], KilledOnce(TINY, str(there)), 3)
    assert (outcome.state, outcome.words) == ("done", "")
    assert (there / job.id / "killed").exists()
    assert "resumed at iteration" in (there / job.id / "log.txt").read_text()
    assert image_scores(there, job) == image_scores(here, job)


@pytest.mark.usefixtures("submitit")
def test_job_that_always_dies_is_given_up(tmp_path: Path) -> None:
    job = Job("Ball", str(tmp_path), "padim", 0, 1.0)
    (outcome,) = run_here([job], AlwaysDies(TINY, str(tmp_path)), 2)
    assert outcome.state == "failed"
    assert "died 2 times" in outcome.words


@pytest.mark.usefixtures("submitit")
@pytest.mark.parametrize(
    ("options", "gpus", "words"),
    [
        (("partition",), 0, "--slurm wants name=value"),
        ((), 0.5, "whole GPUs, not 0.5"),
        (("colour=red",), 0, "Slurm cannot be used: .*colour"),
    ],
)
def test_wrong_options_are_one_sentence(
    tmp_path: Path, options: tuple[str, ...], gpus: float, words: str
) -> None:
    worker = Worker(TINY, str(tmp_path))
    with pytest.raises(InputError, match=words):
        list(run_on_slurm([], worker, options, gpus, None, 1, lambda: None, cluster="local"))


@pytest.mark.usefixtures("submitit")
def test_machine_without_slurm_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Slurm cannot be used: .*slurm cluster"):
        list(run_on_slurm([], Worker(TINY, str(tmp_path)), (), 0, None, 1, lambda: None))


def test_without_submitit_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install \.\[slurm\]"):
        list(run_on_slurm([], Worker(TINY, str(tmp_path)), (), 0, None, 1, lambda: None))
