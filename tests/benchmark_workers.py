"""Workers that die in the middle of a training, for the tests of the engines."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paper.job import Outcome, Worker
from benchmarks.paper.plan import Job, Settings

TINY = Settings(
    iterations=60, max_gaussians=300, holdout_every=0, checkpoint_every=20, resolution=400,
    matcher="classical", features="rgb", weights=None, backend="auto", device="cpu", threads=1,
    keep_maps=False,
)  # fmt: skip


@dataclass(frozen=True)
class KilledOnce(Worker):
    """Its process is killed at the first checkpoint of the first attempt at a training."""

    def __call__(self, job: Job) -> Outcome:
        """See `Worker`."""
        folder = Path(self.root) / job.id
        if job.preset is not None and not (folder / "killed").exists():
            threading.Thread(target=_kill_at_checkpoint, args=(folder,), daemon=True).start()
        return super().__call__(job)


@dataclass(frozen=True)
class AlwaysDies(Worker):
    """Its process never comes to an end."""

    def __call__(self, job: Job) -> Outcome:
        """See `Worker`."""
        os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(job)


def _kill_at_checkpoint(folder: Path) -> None:
    while not (folder / "model/checkpoint.npz").exists():
        time.sleep(0.002)
    (folder / "killed").touch()
    os.kill(os.getpid(), signal.SIGKILL)
