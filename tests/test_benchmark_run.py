"""benchmark.py from a folder of classes to tables; resumed, widened, killed, refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_workers import TINY, AlwaysDies, KilledOnce
from captures import write_blender, write_mad

from benchmark import Benchmark, BenchmarkConfig, benchmark
from benchmarks.paper.job import Outcome, Worker
from benchmarks.paper.plan import Job, Variant, results_path
from benchmarks.paper.run import Engine, run_locally
from pipeline.model_folder import ModelFolder
from scene import InputError, read_json

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one class."""
    root = tmp_path_factory.mktemp("data") / "Toys"
    write_mad(root / "01Ball", views=24, labels={"good": 1, "Burrs": 1})
    return root


def small(classes: Path, output: Path) -> BenchmarkConfig:
    """A grid of seconds: two shares of the views, one number of steps."""
    return BenchmarkConfig(
        source=(classes,), output=output, views=(0.5, 1.0), steps=(2,), workers=2,
        iterations=TINY.iterations, holdout_every=0,
        max_gaussians=TINY.max_gaussians, checkpoint_every=20, matcher="classical",
        features="rgb", device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """The grid, run once."""
    return benchmark(small(classes, tmp_path_factory.mktemp("out")))


def half_job(run: Benchmark) -> Job:
    """The cheapest training of the grid, with its cheapest detections."""
    job = next(job for job in run.jobs if job.preset and job.share == 0.5)
    return replace(job, variants=(Variant("adam", 2),))


def image_scores(root: Path, job: Job) -> list[float]:
    """The scores of one job's images after two steps of Adam."""
    images = read_json(root / job.id / "adam2/results.json")["images"]
    return [image["score"] for image in images]


def test_grid_is_complete_and_tables_stand_beside_the_papers(run: Benchmark) -> None:
    assert run.is_complete
    assert {outcome.state for outcome in run.outcomes.values()} == {"done"}
    assert [job.id for job in run.jobs] == [
        "Ball-splatpose-default-seed0-views0.5",
        "Ball-splatpose-default-seed0-views1",
        "Ball-splatpose-default-seed0-views1-holdout10",
    ]
    names = ("table_1", "table_2", "table_3", "table_4", "table_5", "figure_3", "hours")
    for name in names:
        for suffix in ("csv", "json", "md", "tex"):
            assert (run.root / "tables" / f"{name}.{suffix}").stat().st_size > 0
    assert (run.root / "tables/figure_3.png").read_bytes().startswith(b"\x89PNG")
    text = (run.root / "tables/README.md").read_text()
    assert "3 of 3 jobs" in text
    assert "](figure_3.png)" in text
    assert "splatpose (paper)" in text
    assert "OmniposeAD, quoted" in text
    assert f"trained for {TINY.iterations} iterations instead of 3000" in text
    poses = read_json(run.root / "tables/table_4.json")
    assert [row["scene, method, stage"] for row in poses["rows"][:2]] == [
        "Ball, splatpose-default, coarse",
        "Ball, splatpose-default, final",
    ]
    assert "Ball: 2 images, held-out train views." in poses["notes"]


def test_every_job_says_what_it_used(run: Benchmark) -> None:
    splits = read_json(run.root / "splits.json")
    assert len(splits["Ball-splatpose-default-seed0-views0.5"]) == 12
    for job in run.jobs:
        results = read_json(results_path(job, run.root))
        assert results["hardware"]["cores"] == os.cpu_count()
        assert results["commit"]
        assert results["settings"]["iterations"] == TINY.iterations
        assert not (run.root / job.id / "auto/maps").exists()


def test_finished_jobs_are_not_run_again(run: Benchmark, classes: Path) -> None:
    before = {job.id: results_path(job, run.root).stat().st_mtime_ns for job in run.jobs}
    again = benchmark(small(classes, run.root.parent))
    assert again.outcomes == {}
    assert {job.id: results_path(job, run.root).stat().st_mtime_ns for job in run.jobs} == before


def test_more_steps_share_the_training(run: Benchmark) -> None:
    job = half_job(run)
    config = ModelFolder(run.root / job.id / "model").config_path
    trained = config.stat().st_mtime_ns
    wider = replace(job, variants=(*job.variants, Variant("adam", 1)))
    assert not wider.is_finished(run.root)
    assert Worker(TINY, str(run.root))(wider).state == "done"
    assert config.stat().st_mtime_ns == trained
    detections = read_json(results_path(job, run.root))["detections"]
    assert list(detections) == ["auto", "adam2", "adam1"]
    assert job.is_finished(run.root)


def test_other_settings_need_another_name(run: Benchmark, classes: Path) -> None:
    with pytest.raises(InputError, match=r"begun with other settings \(iterations: 60, now 7\)"):
        benchmark(replace(small(classes, run.root.parent), iterations=7))


def test_other_data_of_the_same_name_is_refused(run: Benchmark, tmp_path: Path) -> None:
    job = replace(half_job(run), source=str(tmp_path / "01Ball"))
    with pytest.raises(InputError, match=r"was measured on .*01Ball, not on .*choose another"):
        job.is_finished(run.root)


def test_interrupted_benchmark_leaves_the_tables_of_what_is_done(
    run: Benchmark, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, done = tmp_path / "Toys", half_job(run).id
    shutil.copytree(run.root / done, root / done)

    def interrupted(*_: object) -> Iterator[Outcome]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("benchmarks.paper.run.run_locally", interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmark(small(classes, tmp_path))
    assert "1 of 3 jobs" in (root / "tables/README.md").read_text()


def test_killed_worker_loses_nothing(run: Benchmark, tmp_path: Path) -> None:
    job = half_job(run)
    worker = KilledOnce(TINY, str(tmp_path))
    outcomes = list(run_locally([job], worker, Engine("local", 1, 3)))
    assert [outcome.state for outcome in outcomes] == ["done"]
    assert (tmp_path / job.id / "killed").exists()
    assert "resumed at iteration" in (tmp_path / job.id / "log.txt").read_text()
    assert image_scores(tmp_path, job) == image_scores(run.root, job)


def test_job_that_always_dies_is_given_up(run: Benchmark, tmp_path: Path) -> None:
    jobs = [half_job(run)]
    (outcome,) = run_locally(jobs, AlwaysDies(TINY, str(tmp_path)), Engine("local", 1, 2))
    assert outcome.state == "failed"
    assert "its process died 2 times" in outcome.message


@pytest.mark.parametrize(("signal_sent", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_killed_benchmark_leaves_no_processes_and_goes_on(
    classes: Path, tmp_path: Path, signal_sent: signal.Signals, status: int
) -> None:
    command = [
        sys.executable, "benchmark.py", "-s", str(classes), "-o", str(tmp_path), "--table", "5",
        "--iterations", "100000", "--max-gaussians", "300", "--holdout-every", "0",
        "--checkpoint-every", "20",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    folder = ModelFolder(tmp_path / "Toys/Ball-splatpose-default-seed0-views1")
    checkpoint = folder.root / "model/checkpoint.npz"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal_sent)
    assert process.wait() == status
    while time.monotonic() < deadline:  # its worker follows it and lets go of the folder
        try:
            with folder.lock():
                break
        except InputError:
            time.sleep(0.05)
    else:
        pytest.fail("the worker outlived its benchmark")
    assert checkpoint.exists()
    assert not folder.root.joinpath("results.json").exists()


def test_two_runs_do_not_step_on_each_other(run: Benchmark, tmp_path: Path) -> None:
    job = half_job(run)
    with ModelFolder(tmp_path / job.id).lock():
        outcome = Worker(TINY, str(tmp_path))(job)
    assert outcome.state == "busy"
    assert not (tmp_path / job.id / "model").exists()


def test_broken_class_fails_alone_and_says_why(tmp_path: Path) -> None:
    job = Job("Gone", str(tmp_path / "Gone"), "splatpose-default", 0, 1.0)
    outcome = Worker(TINY, str(tmp_path))(job)
    assert outcome.state == "failed"
    assert "no class 'Gone'" in outcome.message


def test_dry_run_lists_and_writes_nothing(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(small(classes, tmp_path), seeds=2, dry_run=True)
    benchmark(replace(config, views=(1.0,), steps=(25, 100), holdout_every=10))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == [
        "Ball-splatpose-default-seed0-views1", "to", "do", "auto", "adam25", "adam100", "poses",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_without_pandas_the_command_is_named_before_anything_runs(
    classes: Path, tmp_path: Path
) -> None:
    code = "import sys; sys.modules['pandas'] = None; import benchmark; benchmark.main()"
    command = [sys.executable, "-c", code, "-s", str(classes), "-o", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install .[benchmarks]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"methods": ("simplenet",)},
            "unknown method 'simplenet': choose from splatpose, anomalib-padim",
        ),
        ({"views": (0.0,)}, r"--views must lie in \(0, 1\]"),
        ({"steps": (0,)}, "--steps must be at least 1"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"address": "127.0.0.1:1"}, "add --engine ray"),
        ({"classes": ("Cat",)}, "no class 'Cat'.*Ball"),
        ({"source": (Path("nowhere/here"),)}, "no folder nowhere"),
    ],
)
def test_wrong_settings_are_refused(
    classes: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    config = replace(small(classes, tmp_path), **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=words):
        benchmark(config)
    assert list(tmp_path.iterdir()) == []


def test_blender_scene_is_measured_on_its_test_split(tmp_path: Path) -> None:
    source = write_blender(tmp_path / "scene", views=12, queries=2)
    job = Job("scene", str(source), "splatpose-default", 0, 1.0, poses=True)
    assert Worker(TINY, str(tmp_path))(job).state == "done"
    poses = read_json(tmp_path / job.id / "poses.json")
    assert poses["summary"]["split"] == "test split"
    assert [image["name"] for image in poses["images"]] == ["r_0", "r_1"]
    assert job.is_finished(tmp_path)
