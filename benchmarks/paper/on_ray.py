"""The engine for clusters: Ray (optional: pip install .[ray]).

All machines must see the code, the captures and the output folder under the same paths.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence

from benchmarks.paper.jobs import Job
from benchmarks.paper.local import TICK
from benchmarks.paper.work import Outcome, Worker, code_path
from scene import InputError

_LOOPBACK = ("127.", "localhost")
# Ray listens on the loopback interface alone when this is 0. The name is from Windows and macOS,
# where that is the usual way; elsewhere it would listen on the network for a cluster of one.
_STAY_LOCAL = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def run_on_ray(
    jobs: Sequence[Job],
    worker: Worker,
    address: str | None,  # of a running cluster; None: one is started on this machine
    gpus: float,  # a job's need of GPUs
    attempts: int,  # how often a job is tried whose process or machine dies
    tick: Callable[[], None],  # called every TICK seconds
) -> Iterator[Outcome]:
    """Runs the jobs wherever Ray has room; yields how each ended, in the order of their ends.

    Raises InputError when Ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    if address is None or address.startswith(_LOOPBACK):
        os.environ.setdefault(_STAY_LOCAL, "0")  # read when ray is imported
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--engine ray needs the package ray: pip install .[ray], or leave --engine out"
        ) from error
    _connect(address)
    threads = worker.settings.threads
    task = ray.remote(
        num_cpus=threads, num_gpus=gpus, max_retries=attempts - 1, retry_exceptions=False
    )(_perform)
    pending = {task.remote(worker, job): job for job in jobs}
    try:
        while pending:
            for done in ray.wait(list(pending), num_returns=1, timeout=TICK)[0]:
                job = pending.pop(done)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError as error:
                    lines = str(error).strip().splitlines() or [type(error).__name__]
                    yield Outcome(job.id, "failed", words=lines[-1])
            tick()
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _perform(worker: Worker, job: Job) -> Outcome:
    """One job on a machine of the cluster."""
    return worker(job)


def _connect(address: str | None) -> None:
    import ray

    if address is not None:
        _knock(address)
    environment = {"env_vars": {"PYTHONPATH": code_path()}}
    place = {"include_dashboard": False} if address is None else {"address": address}
    try:
        ray.init(**place, runtime_env=environment, log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at '{address}': {error}") from error


def _knock(address: str) -> None:
    """Raises InputError at once where nobody listens: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:  # "auto": Ray knows where
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at '{address}' ({error}): start one with ray start --head, or "
            "leave --address out"
        ) from error
