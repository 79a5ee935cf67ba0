"""Everything that this project claims of a GPU, checked and measured by one command.

    python -m benchmarks.gpu_check                      at most 10 minutes, asks nothing
    python -m benchmarks.gpu_check --no-build --json OUT.json

On a machine with an NVIDIA GPU it installs the CUDA packages that are missing (--no-build: it does
not), holds every CUDA backend against `reference`, trains data/brick_dog with each, judges its test
images, and writes a table and JSON. Every step runs in a process of its own with a time limit, so
one that crashes or hangs is reported and the others go on. gsplat compiles its kernels at the first
run, which may take most of the time: run the command again then. Exits with 0 if all steps went
well and all comparisons are within their limits, with 1 if not, with 2 without a GPU.
"""

import importlib.util
import json
import os
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
from gaussian_renderer import available_backends
from pipeline.model_folder import provenance
from scene import write_json

PACKAGES = {  # what gpu_steps.build calls it -> the module that it installs
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
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return {"error": f"took longer than {seconds:.0f} s and was stopped"}
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
    if config.build:
        for name, package in PACKAGES.items():
            if importlib.util.find_spec(package) is None:
                run.step(f"build {name}", "build", name, limit=240)
        importlib.invalidate_caches()
    backends = [name for name in available_backends("cuda") if name != "reference"]
    good = bool(backends)
    for backend in backends:
        found = run.step(f"compare {backend}", "compare", backend, limit=420)
        good &= "error" not in found and within_limits(found)
    found = run.step("loss", "loss", limit=90)
    good &= "error" not in found and found["gradient"] <= 1e-3
    if importlib.util.find_spec("simple_knn") is not None:
        found = run.step("neighbours", "neighbours", limit=60)
        good &= "error" not in found and found["largest_relative_difference"] <= 1e-3
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            found = run.step(f"default {backend}", "train", backend, "default", folder, None,
                             limit=240)  # fmt: skip
            good &= "error" not in found
        if backends and config.paper_iterations > 0:
            run.step(f"paper {backends[0]}", "train", backends[0], "paper", folder,
                     config.paper_iterations, limit=300)  # fmt: skip
    run.document["good"] = good
    write_json(config.json, run.document)
    print(table(run.document))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(check(tyro.cli(CheckConfig, description=__doc__)))
