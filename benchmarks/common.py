"""What every benchmark states: hardware, commit, minimum, median and spread."""

import math
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaussian_renderer import instruction_set
from pipeline.model_folder import provenance
from scene import write_json

ANGLE_LIMIT, DISTANCE_LIMIT = math.radians(1.0), 0.02  # a pose nearer than both counts as found


@dataclass
class Times:
    """Milliseconds of every repeat of one task."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # of all threads of this process


def interleave(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Times each task `repeats` times; the tasks take turns, after one round to warm up.

    Turns make the tasks share whatever else the machine does, so that their ratios stay honest.
    """
    times = {name: Times() for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            task()
            cpu, wall = time.process_time() - begin_cpu, time.perf_counter() - begin
            if turn:
                times[name].wall.append(1e3 * wall)
                times[name].cpu.append(1e3 * cpu)
    return times


def summary(times: Times) -> dict[str, float]:
    """Minimum, median and interquartile range of the wall clock, and the least processor time.

    Processor time leaves out the moments in which other processes had the core; on a busy machine
    it is the figure to compare.
    """
    figures = spread(times.wall)
    return figures | {"min_cpu_ms": round(min(times.cpu), 3), "repeats": len(times.wall)}


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Minimum, median and interquartile range, rounded to microseconds."""
    quarters = statistics.quantiles(milliseconds, n=4) if len(milliseconds) > 1 else [0.0, 0, 0]
    return {
        "min_ms": round(min(milliseconds), 3),
        "median_ms": round(statistics.median(milliseconds), 3),
        "spread_ms": round(quarters[2] - quarters[0], 3),
    }


def machine(threads: int) -> dict[str, Any]:
    """Where and with what the figures were taken."""
    return provenance() | {
        "cpu": cpu_model(),
        "instruction_set": instruction_set(),
        "threads": threads,
        "load_average": _load_average(),
    }


def peak_memory_mib() -> float:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def report(result: dict[str, Any], path: Path | None) -> None:
    """Prints the figures, a line each, and writes all of it as JSON."""
    for name, figures in result["figures"].items():
        print(f"{name:32s} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    print("  ".join(f"{key}: {value}" for key, value in result["machine"].items()))
    if path is not None:
        write_json(path, result)


def cpu_model() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _load_average() -> float | None:
    """Processes that wanted to run in the last minute; above `threads`, others disturbed."""
    try:
        with open("/proc/loadavg") as file:
            return float(file.read().split()[0])
    except OSError:
        return None
