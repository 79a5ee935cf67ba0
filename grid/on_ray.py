"""The engine for clusters: Ray (optional: pip install ray).

All machines must see the code, the captures and the output folder under the same paths.
"""

import os
from collections.abc import Callable, Iterator, Sequence

from pipeline.model_folder import CODE
from scene import InputError

from .jobs import Job
from .local import TICK
from .work import Outcome, Worker


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
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--engine ray needs the package ray: pip install ray, or leave --engine out"
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
                    yield Outcome(job.id, "failed", words=lines[0])
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

    # Paths of this checkout for workers that are started elsewhere; one OpenMP pool per job.
    environment = {"env_vars": {"PYTHONPATH": str(CODE)}}
    options = {"runtime_env": environment, "log_to_driver": False, "logging_level": "warning"}
    try:
        if address is not None:
            ray.init(address=address, **options)
        else:
            ray.init(_node_ip_address="127.0.0.1", include_dashboard=False, **options)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at '{address}': {error}") from error
