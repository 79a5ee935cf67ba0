"""Kills the scripts at random moments: the same command must end in the same bits or figures.

Every case forks a process that runs a script on a tiny capture and sends it SIGKILL (or SIGTERM,
SIGHUP) at a random moment, up to three times, before the script is let through. Then files may grow
no further at a random size (a full disk), and the script is let through once more. What counts is
held against a run that nothing disturbed.
"""

import collections
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark import BenchmarkConfig, benchmark
from calibrate import CalibrateConfig, calibrate
from detect import DetectConfig, detect
from pipeline.command_line import run as run_script
from pipeline.model_folder import ModelFolder
from tests import captures
from tests.small_training import ITERATIONS, small
from train import train

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
OFTEN = 3  # kills of one run, at most
QUERIES = {"good": 4, "Burrs": 4}


@dataclass(frozen=True)
class Subject:
    """A script, and what of its folder must be the same whatever disturbed it."""

    name: str
    run: Callable[[Path], Any]  # into a folder
    outcome: Callable[[Path], Any]
    start: Path | None = None  # what the folder holds before; None: it is not there


def without_seconds(value: Any) -> Any:
    """JSON values without those that are measured by a clock, and without folders of the run."""
    if isinstance(value, dict):
        measured = ("seconds", "training_seconds", "calibration_seconds", "output", "notes")
        return {k: without_seconds(v) for k, v in value.items() if k not in measured}
    return [without_seconds(each) for each in value] if isinstance(value, list) else value


def model_bytes(folder: Path) -> dict[str, bytes]:
    """The files of a model, of a metrics log the numbers of the iterations."""
    names = ("gallery.npz", "normal_model.npz", "calibration_views.npz", "calibration.json")
    found = {name: (folder / name).read_bytes() for name in names}
    found["ply"] = ModelFolder(folder).point_cloud_path(ITERATIONS).read_bytes()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    numbers = [str(json.loads(line)["iteration"]) for line in lines]
    return found | {"metrics": " ".join(numbers).encode()}


def detections(folder: Path) -> Any:
    """Figures, entries and maps of a run of detect.py."""
    stored = without_seconds(json.loads((folder / "results.json").read_text()))
    maps = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.tiff"))}
    rows = (folder / "results.csv").read_text().count("\n")
    articles = (folder / "report.html").read_text().count("<article>")
    return stored["summary"], stored["images"], maps, rows, articles


def job_figures(folder: Path) -> Any:
    """Figures of every job of a benchmark."""
    jobs = sorted(folder.rglob("results.json"))
    stored = [without_seconds(json.loads(path.read_text())) for path in jobs]
    return [values.get("detections", values.get("summary")) for values in stored]


def subjects(root: Path) -> list[Subject]:
    """The four scripts on a ball of 24 views; calibrate.py is killed on a model that is whole."""
    data = captures.write_mad(root / "data/ball", 24, QUERIES)
    model = root / "model"
    in_child(lambda: train(small(data, model)))

    def grid(folder: Path) -> None:
        benchmark(
            BenchmarkConfig(
                (data,), output=folder, iterations=ITERATIONS, max_gaussians=400,
                holdout_every=4, checkpoint_every=50, workers=1, table=(1,),
            )
        )  # fmt: skip

    return [
        Subject("train", lambda folder: train(small(data, folder)), model_bytes),
        Subject(
            "calibrate", lambda f: calibrate(CalibrateConfig(f, threads=1)), model_bytes, model
        ),
        Subject("detect", lambda f: detect(DetectConfig(model, output=f, threads=1)), detections),
        Subject("benchmark", grid, job_figures),
    ]


def in_child(
    script: Callable[[], Any], number: int = 0, after: float = 0.0, largest: int | None = None
) -> tuple[int, str]:
    """Runs a script in a process of its own; its status (minus the signal) and what it said.

    It gets the signal `number` after so many seconds; no file may grow beyond `largest` bytes.
    """
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
            try:
                run_script(script)
                os._exit(0)
            except SystemExit as ended:
                os._exit(int(ended.code or 0))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
                os._exit(99)
        if number:
            _signal_after(child, number, after)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if number == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # the workers of a benchmark
        said.seek(0)
        return status, said.read().decode(errors="replace")


def _signal_after(child: int, number: int, seconds: float) -> None:
    """Waits, and sends the signal to a child that still runs, and for SIGKILL to its children."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if number == signal.SIGKILL else os.kill)(child, number)


def faults_of(status: int, said: str, number: int) -> list[str]:
    """What is wrong with how a disturbed run ended."""
    fine = (0, 1, 2, -number, 128 + number)
    wrong = [] if status in fine else [f"status {status}"]
    return wrong + (["traceback: " + said[-1500:]] if "Traceback" in said else [])


def run_case(
    subject: Subject, folder: Path, seconds: float, wanted: Any, dice: random.Random
) -> tuple[collections.Counter, list[str]]:
    """(what was done, what went wrong) in one disturbed run into `folder`."""
    done: collections.Counter = collections.Counter()
    faults: list[str] = []
    if subject.start is not None:
        shutil.copytree(subject.start, folder)
    if dice.random() < 0.25:
        largest = int(10 ** dice.uniform(1, 5))
        status, said = in_child(lambda: subject.run(folder), largest=largest)
        faults += faults_of(status, said, 0)
        done["full disk" if status else "not disturbed"] += 1
    for _ in range(dice.randint(1, OFTEN)):
        number = dice.choice(SIGNALS)
        status, said = in_child(lambda: subject.run(folder), number, dice.uniform(0, seconds))
        faults += faults_of(status, said, number)
        done[signal.Signals(number).name if status else "not disturbed"] += 1
    status, said = in_child(lambda: subject.run(folder))
    if status:
        return done, [*faults, f"the same command ended with {status}: {said[-1500:]}"]
    if subject.outcome(folder) != wanted:
        faults.append("another outcome")
    return done, faults


def run(cases: int, seed: int) -> int:
    """Runs so many cases of every script, prints what fails and the counts; how many failed."""
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="kills"))
    total = 0
    for subject in subjects(root):
        reference, started = root / f"{subject.name}-reference", time.monotonic()
        if subject.start is not None:
            shutil.copytree(subject.start, reference)
        status, said = in_child(lambda: subject.run(reference))  # noqa: B023 (runs at once)
        if status:
            raise RuntimeError(f"{subject.name} fails undisturbed: {said}")
        seconds, wanted = time.monotonic() - started, subject.outcome(reference)
        counts: collections.Counter = collections.Counter()
        for number in range(cases):
            dice = random.Random(1_000_003 * seed + number)
            folder = root / f"{subject.name}-{number}"
            done, faults = run_case(subject, folder, seconds, wanted, dice)
            counts += done
            total += bool(faults)
            for fault in faults:
                print(f"kills: {subject.name}, case {number}: {fault}", flush=True)
            shutil.rmtree(folder, ignore_errors=not faults)
        print(f"kills: {subject.name}: {cases} cases of seed {seed}: {dict(counts)}", flush=True)
    shutil.rmtree(root)
    return total
