"""The engine without further packages: a pool of processes on this machine.

A process that dies (killed, out of memory) takes no other with it, as it would in the pool of the
standard library: it is replaced, its job is tried again, and the training goes on from its
checkpoint.
"""

import contextlib
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from tqdm import tqdm

from benchmarks.paper.jobs import Job
from benchmarks.paper.work import Outcome, Worker

TICK = 2.0  # seconds between two looks at what is going on
_CONTEXT = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork


@dataclass
class _Lane:
    """A process, the line to it, and the job that it has been given."""

    process: SpawnProcess
    line: Connection
    job: Job | None = None


def run_locally(
    jobs: Sequence[Job],
    worker: Worker,
    workers: int,  # processes at a time
    attempts: int,  # how often a job is tried whose process dies
    tick: Callable[[], None],  # called every TICK seconds
) -> Iterator[Outcome]:
    """Runs the jobs and yields how each ended, in the order of their ends."""
    waiting, tries = deque(jobs), Counter[str]()
    lanes = [_open_lane(worker) for _ in range(min(workers, len(jobs)))]
    try:
        while waiting or any(lane.job for lane in lanes):
            for lane in lanes:
                if waiting and lane.job is None:
                    lane.job = waiting.popleft()
                    tries[lane.job.id] += 1
                    with contextlib.suppress(OSError):  # died while idle: found below
                        lane.line.send(lane.job)
            ready = wait([lane.line for lane in lanes if lane.job], TICK)
            for number, lane in enumerate(lanes):
                if lane.job is None or lane.line not in ready:
                    continue
                job, lane.job = lane.job, None
                try:
                    yield lane.line.recv()
                except (EOFError, OSError):  # the process died without a word
                    lanes[number] = _open_lane(worker)
                    if tries[job.id] < attempts:
                        waiting.appendleft(job)
                    else:
                        yield _given_up(job, lane, tries[job.id])
            tick()
    finally:  # the end, an interrupt, or a consumer that stops: nothing is left behind
        for lane in lanes:
            lane.line.close()
            if lane.job is not None:
                lane.process.terminate()
        for lane in lanes:
            lane.process.join()


def _open_lane(worker: Worker) -> _Lane:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_serve, args=(worker, theirs), daemon=True)
    process.start()
    theirs.close()  # the child holds the only end, so that its death can be read
    return _Lane(process, ours)


def _serve(worker: Worker, line: Connection) -> None:
    """What runs in a process; it ends with its parent, however that one dies."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    tqdm.set_lock(threading.RLock())  # its own semaphore would be mourned when we are terminated
    try:
        while True:
            line.send(worker(line.recv()))
    except EOFError:  # no more jobs
        return
    except KeyboardInterrupt:  # Ctrl-C reaches the whole group; the parent says the words
        os._exit(130)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _given_up(job: Job, lane: _Lane, tries: int) -> Outcome:
    lane.process.join()
    words = f"its process died {tries} times, last with status {lane.process.exitcode}"
    return Outcome(job.id, "failed", words=words)
