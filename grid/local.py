"""The engine without further packages: processes on this machine, one per job.

A process that dies (killed, out of memory) takes nobody with it: its job is tried again, and the
training goes on from its checkpoint.
"""

import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple

from .jobs import Job
from .work import Outcome, Worker

TICK = 2.0  # seconds between two looks at what is going on
_CONTEXT = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork


class _Running(NamedTuple):
    job: Job
    process: SpawnProcess
    receiver: Connection


def run_locally(
    jobs: Sequence[Job],
    worker: Worker,
    workers: int,  # processes at a time
    attempts: int,  # how often a job is tried whose process dies
    tick: Callable[[], None],  # called every TICK seconds
) -> Iterator[Outcome]:
    """Runs the jobs and yields how each ended, in the order of their ends."""
    waiting, tries = deque(jobs), Counter[str]()
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                tries[waiting[0].id] += 1
                running.append(_start(waiting.popleft(), worker))
            wait([one.process.sentinel for one in running], TICK)
            for one in [one for one in running if not one.process.is_alive()]:
                running.remove(one)
                outcome = _outcome(one)
                if outcome is not None:
                    yield outcome
                elif tries[one.job.id] < attempts:
                    waiting.append(one.job)
                else:
                    yield _given_up(one, tries[one.job.id])
            tick()
    finally:  # an interrupt, or a consumer that stops: nothing is left behind
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.join()


def _start(job: Job, worker: Worker) -> _Running:
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_child, args=(worker, job, sender), name=job.id, daemon=True)
    process.start()
    sender.close()  # the child holds the only end, so that its death can be read
    return _Running(job, process, receiver)


def _child(worker: Worker, job: Job, sender: Connection) -> None:
    """What runs in the process; it ends with its parent, however that one dies."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        sender.send(worker(job))
    except KeyboardInterrupt:  # Ctrl-C reaches the whole group; the parent says the words
        os._exit(130)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _outcome(one: _Running) -> Outcome | None:
    """What the process sent before its end; None when it died without a word."""
    with one.receiver:
        try:
            return one.receiver.recv() if one.receiver.poll() else None
        except EOFError:
            return None


def _given_up(one: _Running, tries: int) -> Outcome:
    words = f"its process died {tries} times, last with status {one.process.exitcode}"
    return Outcome(one.job.id, "failed", words=words)
