"""The steps of gpu_check.py: in which order, within which limits, what follows a failure."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.gpu_steps import ROOT
from benchmarks.gpu_table import agrees, table, within_limits
from doctor import NVCC_REMEDY
from pipeline.model_folder import provenance
from scene import write_json

PACKAGES = {  # what gpu_steps.build calls it -> the module that it installs; in this order
    "triton": "triton",
    "gsplat": "gsplat",
    "graphdeco": "diff_gaussian_rasterization",
    "simple_knn": "simple_knn",
}


_RAISED = re.compile(r"[\w.]*(Error|Exception)\b|error:|ERROR:")  # Python's last word, ours, pip's
_COMPLAINT = re.compile(r"(fatal error|\): error|:\d+: error|nvcc fatal)\b")  # of gcc and nvcc
_BACKENDS = ("triton", "gsplat", "graphdeco")
_MANY_VIEWS = ("triton", "gsplat")  # in one call
_GIB_A_JOB = 4  # memory that one nvcc may take


@dataclass(frozen=True)
class CheckConfig:
    """Knobs of the check."""

    json: Path = Path("out/gpu_check.json")
    """Where the figures are written."""
    build: bool = True
    """Install missing CUDA packages with pip."""
    minutes: float = 9.5
    """Time for everything; steps that do not fit are reported as left out."""
    paper_iterations: int = 30_000
    """Iterations of the run with the preset `paper`; 0 leaves it out."""


class Check:
    """Runs steps one after the other until the time is spent."""

    def __init__(self, config: CheckConfig) -> None:
        self.deadline = time.monotonic() + 60 * config.minutes
        self.target = config.json
        self.document: dict[str, Any] = {"machine": machine(), "good": False, "steps": {}}

    def step(self, title: str, name: str, *arguments: Any, limit: float) -> dict[str, Any]:
        """One step in its own process, at most `limit` seconds; its result or {"error": why}."""
        allowed = min(limit, self.deadline - time.monotonic())
        if allowed < 5:
            result: dict[str, Any] = {"error": "left out: the time was spent"}
        else:
            print(f"{title} ...", file=sys.stderr, flush=True)
            started = time.monotonic()
            result = run_step(name, list(arguments), allowed)
            result["wall_seconds"] = round(time.monotonic() - started, 1)
        return self._keep(title, result)

    def leave_out(self, title: str, why: str) -> None:
        """A step that cannot run here."""
        self._keep(title, {"state": f"left out: {why}"})

    def _keep(self, title: str, result: dict[str, Any]) -> dict[str, Any]:
        self.document["steps"][title] = result
        write_json(self.target, self.document)  # what was found survives a later crash
        return result


def machine() -> dict[str, Any]:
    """The GPU, and the versions that the figures depend on."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": torch.cuda.get_device_name(),
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        **provenance(),
    }


def compile_jobs() -> int:
    """As many compilers as cores, as far as the memory allows."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(os.cpu_count() or 1, int(gib / _GIB_A_JOB)))


def run_step(name: str, arguments: list[Any], seconds: float) -> dict[str, Any]:
    """A step of gpu_steps.py in a fresh process; what went wrong under "error".

    The process leads a group of its own, so that compilers it started end with it.
    """
    with tempfile.TemporaryDirectory() as folder:
        target, log = Path(folder) / "result.json", Path(folder) / "log.txt"
        command = [sys.executable, "-m", "benchmarks.gpu_steps", name, json.dumps(arguments)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, str(target)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                return {"error": f"took longer than {seconds:.0f} s and was stopped"}
            finally:  # the limit, Ctrl-C, or a compiler that outlived its step
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status == 0 and target.is_file():
            result: dict[str, Any] = json.loads(target.read_text())
            return result
        return {"error": f"status {status}: {cause(log.read_text(errors='replace'))}"}


def cause(log: str) -> str:
    """The line of a log that says what went wrong, and the first complaint of a compiler."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["no message"]
    raised = [line for line in lines if _RAISED.match(line)] or lines
    complaints = [line for line in lines if _COMPLAINT.search(line)]
    words = [raised[-1], *(line for line in complaints[:1] if line != raised[-1])]
    return "; ".join(word[:300] for word in words)


def check(config: CheckConfig) -> int:
    """Runs everything that fits into the time; returns the exit status."""
    if not torch.cuda.is_available():
        print("no GPU: nothing was checked (python doctor.py says why)", file=sys.stderr)
        return 2
    run = Check(config)
    # Extensions are built for this card alone, which takes a fraction of the time for all.
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", run.document["machine"]["capability"])
    os.environ.setdefault("MAX_JOBS", str(compile_jobs()))
    try:
        with tempfile.TemporaryDirectory() as folder:
            good = _everything(run, config, folder)
        run.document["good"] = good
        write_json(config.json, run.document)
    finally:
        print(table(run.document))
    return 0 if good else 1


def _everything(run: Check, config: CheckConfig, folder: str) -> bool:
    """All steps, those that matter most first; whether all went well."""
    good = _backend(run, config, folder, "triton")
    found = run.step("loss", "loss", limit=90)
    good &= "error" not in found and found["gradient"] <= 1e-3
    run.step("half precision", "half", limit=90)
    if config.paper_iterations > 0 and _is_right(run, "triton"):
        run.step("paper triton", "train", "triton", "paper", f"{folder}/paper",
                 config.paper_iterations, limit=200)  # fmt: skip
    good &= _backend(run, config, folder, "gsplat")
    good &= _backend(run, config, folder, "graphdeco")
    if _is_there(run, config, "simple_knn"):
        found = run.step("neighbours", "neighbours", limit=60)
        good &= "error" not in found and found["largest_relative_difference"] <= 1e-3
    if _is_right(run, "triton"):
        run.step("settings triton", "settings", f"{folder}/triton", limit=120)
    return good and any(_is_right(run, name) for name in _BACKENDS)


def _is_right(run: Check, backend: str) -> bool:
    """Whether a backend was compared with `reference` without an error."""
    return "error" not in run.document["steps"].get(f"compare {backend}", ["error"])


def _backend(run: Check, config: CheckConfig, folder: str, backend: str) -> bool:
    """All steps of one backend; whether they went well, or it is not there."""
    if not _is_there(run, config, backend):
        return True
    found = run.step(f"compare {backend}", "compare", backend, limit=420)
    good = "error" not in found and within_limits(found)
    model = f"{folder}/{backend}"
    found = run.step(f"default {backend}", "train", backend, "default", model, None, limit=300)
    if "error" in found:
        return False
    found = run.step(f"detect {backend}", "detect", backend, model, limit=150)
    good = good and "error" not in found
    if backend in _MANY_VIEWS:
        found = run.step(f"batches {backend}", "batches", backend, model, limit=120)
        good = good and "error" not in found and agrees(found)
    run.step(f"hot paths {backend}", "hot", backend, model, limit=60)
    return good


def _is_there(run: Check, config: CheckConfig, name: str) -> bool:
    """Whether a package can be imported, after an attempt to install it; else says why not."""

    def found() -> bool:
        importlib.invalidate_caches()
        return importlib.util.find_spec(PACKAGES[name]) is not None

    if found():
        return True
    if not config.build:
        run.leave_out(f"build {name}", "not installed, and --no-build")
    elif name != "triton" and shutil.which("nvcc") is None:
        run.leave_out(f"build {name}", f"not installed, and no nvcc to build it: {NVCC_REMEDY}")
    else:
        run.step(f"build {name}", "build", name, limit=240)
    return found()


def main(description: str) -> None:
    """Command line; a kill by the system's ordinary signal leaves the table as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = tyro.cli(CheckConfig, description=description)
    try:
        sys.exit(check(config))
    except KeyboardInterrupt:
        print(f"interrupted: what was found is in {config.json}", file=sys.stderr)
        sys.exit(130)
