"""Runs the jobs of a benchmark: in processes of this machine, or on a Ray cluster.

A process that dies (killed, out of memory) takes no other job with it: its job is tried again, and
the training goes on from its checkpoint.
"""

import contextlib
import fcntl
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from benchmarks.paper.job import Outcome, Worker
from benchmarks.paper.plan import Axes, Job, Settings, plan
from pipeline.model_folder import CODE
from scene import InputError, read_json, write_json

# May change between two runs of one benchmark: none of them changes a figure over images.
_FREE = ("threads", "keep_maps", "weights", "checkpoint_every")
_SPAWN = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
_LOOPBACK = ("127.", "localhost")
# Ray listens on the loopback interface alone when this is 0. The name is from Windows and macOS,
# where that is the usual way; elsewhere it would listen on the network for a cluster of one.
_STAY_LOCAL = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True)
class Engine:
    """Who runs the jobs."""

    name: Literal["local", "ray"]
    workers: int  # local: processes at a time
    attempts: int  # how often a job is tried whose process or machine dies
    address: str | None = None  # of a running Ray cluster; None: one is started on this machine
    gpus: float = 0.0  # Ray: a job's need of GPUs


@dataclass(frozen=True)
class Benchmark:
    """What a run left."""

    root: Path
    jobs: list[Job]
    outcomes: dict[str, Outcome]  # of the jobs that were not finished before, by id

    @property
    def is_complete(self) -> bool:
        """Whether every job is finished."""
        return all(job.is_finished(self.root) for job in self.jobs)


def run_benchmark(axes: Axes, settings: Settings, root: Path, engine: Engine) -> Benchmark:
    """Runs what is missing of the grid and writes the tables. Raises InputError."""
    from benchmarks.paper.tables import write_tables  # says at once when pandas is missing

    jobs = plan(axes, settings)
    claim_folder(root, settings)
    missing = [job for job in jobs if not job.is_finished(root)]
    print(f"{len(jobs)} jobs, {len(jobs) - len(missing)} finished before; folder: {root}")
    worker = Worker(settings, str(root))
    run = run_on_ray if engine.name == "ray" else run_locally
    outcomes: dict[str, Outcome] = {}
    try:
        with tqdm(total=len(missing), unit="job", disable=None) as bar:  # on a terminal
            for outcome in run(missing, worker, engine) if missing else ():
                outcomes[outcome.id] = outcome
                bar.write(_line(outcome, len(outcomes), len(missing)))
                bar.update()
    finally:  # after Ctrl-C as well: the tables show what there is
        with only_one(root):
            write_tables(jobs, root, axes.steps)
    return Benchmark(root, jobs, outcomes)


def _line(outcome: Outcome, count: int, total: int) -> str:
    ended = f"[{count}/{total}] {outcome.id:44} {outcome.state:13} {outcome.seconds:6.0f} s"
    return ended + f"\n    {outcome.message}" * bool(outcome.message)


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Waits until no other run writes what all runs share (settings, tables), then keeps it.

    The lock belongs to the process: the system lets go when it dies, and after a restart of the
    machine none is left.
    """
    root.mkdir(parents=True, exist_ok=True)
    with open(root / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def claim_folder(root: Path, settings: Settings) -> None:
    """Writes the settings into a new benchmark, or holds them against those of an old one.

    The axes of a benchmark may grow from run to run, its settings may not change.
    Raises InputError when they differ.
    """
    path, ours = root / "settings.json", asdict(settings)
    with only_one(root):
        if not path.is_file():
            write_json(path, ours)
            return
        stored: dict[str, Any] = read_json(path)
    for name, value in ours.items():
        if name not in _FREE and stored.get(name) != value:
            raise InputError(
                f"'{root}' was begun with other settings ({name}: {stored.get(name)}, now {value}):"
                " choose another --name"
            )


def run_locally(jobs: Sequence[Job], worker: Worker, engine: Engine) -> Iterator[Outcome]:
    """Runs the jobs on this machine and yields how each ended, in the order of their ends.

    Every job has a process of its own, which ends with this one however it dies: it reads from a
    pipe into which nobody writes, and whose other end only this process holds.
    """
    reader, leash = _SPAWN.Pipe(duplex=False)
    with ThreadPoolExecutor(engine.workers) as threads:
        waiting: list[Future[Outcome]] = [
            threads.submit(_attempt, job, worker, engine.attempts, reader, leash) for job in jobs
        ]
        try:
            for ended in as_completed(waiting):
                yield ended.result()
        finally:  # the end, an interrupt, or a consumer that stops: nothing is left behind
            leash.close()
            threads.shutdown(cancel_futures=True)


def _attempt(
    job: Job, worker: Worker, attempts: int, reader: Connection, leash: Connection
) -> Outcome:
    """One job in a process; again while the process dies and the benchmark does not."""
    for _ in range(attempts):
        with ProcessPoolExecutor(1, _SPAWN, _follow, (reader,)) as process:
            try:
                return process.submit(worker, job).result()
            except BrokenProcessPool:
                if leash.closed:
                    break
    message = f"its process died {attempts} times: killed, or out of memory"
    return Outcome(job.id, "failed", message=message)


def _follow(reader: Connection) -> None:
    """Makes this process end when `leash` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too
    tqdm.set_lock(threading.RLock())  # a semaphore of its own would be left behind by _exit
    threading.Thread(target=_end_with, args=(reader,), daemon=True).start()


def _end_with(reader: Connection) -> None:
    with contextlib.suppress(EOFError):
        reader.recv()
    os._exit(1)


def run_on_ray(jobs: Sequence[Job], worker: Worker, engine: Engine) -> Iterator[Outcome]:
    """Runs the jobs wherever Ray has room; yields how each ended, in the order of their ends.

    All machines must see the code, the captures and the output folder under the same paths.
    Raises InputError when Ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    if engine.address is None or engine.address.startswith(_LOOPBACK):
        os.environ.setdefault(_STAY_LOCAL, "0")  # read when ray is imported
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--engine ray needs the package ray: pip install .[ray], or leave --engine out"
        ) from error
    _connect(engine.address)
    task = ray.remote(
        num_cpus=worker.settings.threads, num_gpus=engine.gpus,
        max_retries=engine.attempts - 1, retry_exceptions=False,
    )(_perform)  # fmt: skip
    pending = {task.remote(worker, job): job for job in jobs}
    try:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                yield Outcome(job.id, "failed", message=lines[-1])
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _perform(worker: Worker, job: Job) -> Outcome:
    """One job on a machine of the cluster."""
    return worker(job)


def _connect(address: str | None) -> None:
    """Raises InputError at once where nobody listens: Ray itself would try for minutes."""
    import ray

    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    code = os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH", "")]))
    place = {"include_dashboard": False} if address is None else {"address": address}
    try:
        if colon:  # else this machine, or "auto": Ray knows where
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            **place, runtime_env={"env_vars": {"PYTHONPATH": code}}, log_to_driver=False,
            logging_level="warning",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at '{address}' ({error}): start one with ray start --head, or "
            "leave --address out"
        ) from error
