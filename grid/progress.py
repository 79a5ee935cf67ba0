"""Where a benchmark stands, read from the folders of its jobs: the same for every engine."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .jobs import Job
from .work import Outcome

_EVERY = 60.0  # seconds between two lines on the jobs that are running


class Progress:
    """Prints one line per job that ends, and at times what the others are doing."""

    def __init__(self, jobs: Sequence[Job], root: Path) -> None:
        self.jobs, self.root = jobs, root
        self.ended: dict[str, Outcome] = {}
        self._started = self._spoken = time.monotonic()
        self._begun = time.time()

    def add(self, outcome: Outcome) -> None:
        """Counts and prints how a job ended."""
        self.ended[outcome.id] = outcome
        number = f"[{len(self.ended)}/{len(self.jobs)}]"
        print(f"{number:>9} {outcome.id:44} {outcome.state:13} {outcome.seconds:6.0f} s  "
              f"{self._left()}")  # fmt: skip
        if outcome.words:
            print(f"          {outcome.words}", file=sys.stderr)

    def tick(self) -> None:
        """Prints the jobs in progress, once a minute."""
        if time.monotonic() - self._spoken < _EVERY:
            return
        self._spoken = time.monotonic()
        for job in self.jobs:
            log = self.root / job.id / "log.txt"
            is_open = job.id not in self.ended and log.is_file()
            if is_open and log.stat().st_mtime >= self._begun:
                print(f"          {job.id:44} {stage(self.root / job.id)}")
        sys.stdout.flush()

    def summary(self) -> str:
        """One sentence."""
        counts = Counter(outcome.state for outcome in self.ended.values())
        return ", ".join(f"{count} {state}" for state, count in counts.items()) or "no jobs"

    def _left(self) -> str:
        """The time still needed, if the other jobs take as long as those done."""
        done = sum(outcome.state == "done" for outcome in self.ended.values())
        left = len(self.jobs) - len(self.ended)
        if not done or not left:
            return ""
        seconds = (time.monotonic() - self._started) / done * left
        return f"about {seconds / 3600:.1f} h left" if seconds > 3600 else f"{seconds:.0f} s left"


def stage(folder: Path) -> str:
    """What a job is doing, in words."""
    model = folder / "model"
    if not model.is_dir():
        return "at work"
    if not (model / "config.json").is_file():
        lines = _lines(model / "metrics.jsonl")
        return f"training, iteration {json.loads(lines[-1])['iteration']}" if lines else "starting"
    detections = {path.parent.parent.name for path in folder.glob("*/overlays/*")}
    done = {path.parent.name for path in folder.glob("*/results.json")}
    for name in sorted(detections - done):
        count = sum(1 for _ in (folder / name / "overlays").rglob("*.jpg"))
        return f"detections {name}, {count} images"
    return "between two stages"


def _lines(path: Path) -> list[str]:
    """Complete lines of a file that another process writes."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
