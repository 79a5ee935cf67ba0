"""Everything that this project claims of a GPU, checked and measured by one command.

    python -m benchmarks.gpu_check                      at most 10 minutes, asks nothing
    python -m benchmarks.gpu_check --no-build --json OUT.json

On a machine with an NVIDIA GPU it installs the CUDA packages that are missing (--no-build: it does
not), holds every CUDA backend against `reference`, trains data/brick_dog with each, judges its test
images, and writes a table and JSON. Every step runs in a process of its own with a time limit, so
one that crashes or hangs is reported and the others go on; what cannot run is left out with its
reason. The JSON is written after every step, so a check that is cut off leaves what it found.

gsplat compiles its kernels at the first run, which may take most of the time: run the command
again then. Exits with 0 if all steps went well and all comparisons are within their limits, with 1
if not, with 2 without a GPU, with 130 when interrupted.
"""

import contextlib
import importlib.util
import json
import os
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
from benchmarks.gpu_table import table, within_limits
from doctor import NVCC_REMEDY
from pipeline.model_folder import provenance
from scene import write_json

PACKAGES = {  # what gpu_steps.build calls it -> the module that it installs; in this order
    "gsplat": "gsplat",
    "graphdeco": "diff_gaussian_rasterization",
    "simple_knn": "simple_knn",
}


@dataclass(frozen=True)
class CheckConfig:
    """Knobs of the check."""

    json: Path = Path("out/gpu_check.json")
    """Where the figures are written."""
    build: bool = True
    """Install missing CUDA packages with pip."""
    minutes: float = 10.0
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
        last = log.read_text(errors="replace").strip().splitlines()[-3:] or ["no message"]
        return {"error": f"status {status}: {' | '.join(last)}"}


def check(config: CheckConfig) -> int:
    """Runs everything that fits into the time; returns the exit status."""
    if not torch.cuda.is_available():
        print("no GPU: nothing was checked (python doctor.py says why)", file=sys.stderr)
        return 2
    run = Check(config)
    # Extensions are built for this card alone, which takes a fraction of the time for all.
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", run.document["machine"]["capability"])
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
    good, able = True, []
    for backend in ("gsplat", "graphdeco"):
        if not _is_there(run, config, backend):
            continue
        able.append(backend)
        found = run.step(f"compare {backend}", "compare", backend, limit=420)
        good &= "error" not in found and within_limits(found)
        found = run.step(f"default {backend}", "train", backend, "default", folder, None,
                         limit=240)  # fmt: skip
        good &= "error" not in found
    found = run.step("loss", "loss", limit=90)
    good &= "error" not in found and found["gradient"] <= 1e-3
    run.step("half precision", "half", limit=90)
    if _is_there(run, config, "simple_knn"):
        found = run.step("neighbours", "neighbours", limit=60)
        good &= "error" not in found and found["largest_relative_difference"] <= 1e-3
    if able and config.paper_iterations > 0:
        run.step(f"paper {able[0]}", "train", able[0], "paper", folder, config.paper_iterations,
                 limit=300)  # fmt: skip
    return good and bool(able)


def _is_there(run: Check, config: CheckConfig, name: str) -> bool:
    """Whether a package can be imported, after an attempt to install it; else says why not."""

    def found() -> bool:
        importlib.invalidate_caches()
        return importlib.util.find_spec(PACKAGES[name]) is not None

    if found():
        return True
    if not config.build:
        run.leave_out(f"build {name}", "not installed, and --no-build")
    elif shutil.which("nvcc") is None:
        run.leave_out(f"build {name}", f"not installed, and no nvcc to build it: {NVCC_REMEDY}")
    else:
        run.step(f"build {name}", "build", name, limit=240)
    return found()


def main() -> None:
    """Command line; a kill by the system's ordinary signal leaves the table as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config = tyro.cli(CheckConfig, description=__doc__)
    try:
        sys.exit(check(config))
    except KeyboardInterrupt:
        print(f"interrupted: what was found is in {config.json}", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
