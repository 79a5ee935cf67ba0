"""The engine for Slurm clusters, through submitit (optional: pip install .[slurm]).

One Slurm job per job of the benchmark. All machines must see the code, the captures and the output
folder under the same paths.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper.jobs import Job
from benchmarks.paper.local import TICK
from benchmarks.paper.work import Outcome, Worker, code_path
from scene import InputError

_MINUTES = 24 * 60  # what a job may take, unless the options name a time


def run_on_slurm(
    jobs: Sequence[Job],
    worker: Worker,
    options: Sequence[str],  # of sbatch: "partition=gpu", "time=480"
    gpus: float,  # whole GPUs that a job needs
    workers: int | None,  # at most so many Slurm jobs at a time
    attempts: int,  # how often a job is tried whose process or machine dies, or whose time ends
    tick: Callable[[], None],  # called every TICK seconds
    cluster: str = "slurm",  # or submitit's "local": processes of this machine, for tests
) -> Iterator[Outcome]:
    """Submits the jobs and yields how each ended, in the order of their ends.

    What waits or runs is cancelled when the caller stops. Raises InputError when submitit or Slurm
    is not there, or refuses the options.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--engine slurm needs the package submitit: pip install .[slurm], or leave --engine out"
        ) from error
    os.environ["PYTHONPATH"] = code_path()  # sbatch and processes inherit it
    executor = _executor(worker, options, gpus, workers, cluster)
    tries = Counter(job.id for job in jobs)
    pending: list[tuple[Any, Job]] = []
    try:
        with executor.batch():
            pending += [(executor.submit(worker, job), job) for job in jobs]
        while pending:
            for entry in [entry for entry in pending if entry[0].done()]:
                submitted, job = entry
                pending.remove(entry)
                try:
                    yield submitted.result()
                except submitit.core.utils.UncompletedJobError as error:
                    if tries[job.id] < attempts:
                        tries[job.id] += 1
                        pending.append((executor.submit(worker, job), job))
                    else:
                        words = f"died {tries[job.id]} times: {_last_line(error)}"
                        yield Outcome(job.id, "failed", words=words)
            tick()
            time.sleep(TICK)
    finally:
        for submitted, _ in pending:
            submitted.cancel(check=False)


def _executor(
    worker: Worker, options: Sequence[str], gpus: float, workers: int | None, cluster: str
) -> Any:
    """Submitit's, with the needs of a job. Raises InputError."""
    import submitit

    if gpus != int(gpus):
        raise InputError(f"Slurm gives whole GPUs, not {gpus}: choose --gpus 0 or 1")
    values: dict[str, str | int] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise InputError(f"--slurm wants name=value, for example time=480, not '{option}'")
        values[f"slurm_{name}"] = int(value) if value.isdecimal() else value
    if workers is not None:
        values["slurm_array_parallelism"] = workers
    try:
        executor = submitit.AutoExecutor(folder=Path(worker.root) / "slurm", cluster=cluster)
        executor.update_parameters(
            name="splatpose", timeout_min=_MINUTES, cpus_per_task=worker.settings.threads,
            gpus_per_node=int(gpus), **values,
        )  # fmt: skip
    except (RuntimeError, ValueError, NameError, TypeError) as error:
        raise InputError(f"Slurm cannot be used: {_first_line(error)}") from error
    return executor


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
