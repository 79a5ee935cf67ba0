"""Where a benchmark stands, read from the folders of its jobs: the same for every engine."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper.jobs import Job
from benchmarks.paper.screen import Screen
from benchmarks.paper.work import Outcome, log_path

_EVERY = 60.0  # seconds between two looks where nothing can be drawn over
_STATES = ("to do", "running", "done", "failed", "elsewhere")
_STATE_OF = {"done": "done", "had been done": "done", "failed": "failed", "busy": "elsewhere"}


class Progress:
    """A table of the jobs by class and state, drawn over and over; elsewhere a line a minute.

    A job is running when its log has changed since the start: no clocks are compared, so that of a
    file server may differ.
    """

    def __init__(self, jobs: Sequence[Job], missing: Sequence[Job], root: Path) -> None:
        self.jobs, self.missing, self.root = jobs, missing, root
        self.ended: dict[str, Outcome] = {}
        self._screen = Screen(sys.stdout)
        self._started = self._spoken = time.monotonic()
        self._logs = {job.id: _changed(log_path(job, root)) for job in missing}

    def add(self, outcome: Outcome) -> None:
        """Counts and prints how a job ended."""
        self.ended[outcome.id] = outcome
        number = f"[{len(self.ended)}/{len(self.missing)}]"
        line = f"{number:>9} {outcome.id:44} {outcome.state:13} {outcome.seconds:6.0f} s"
        self._screen.say(line if self._screen.is_terminal else f"{line}  {self.left()}")
        if outcome.words:
            self._screen.say(f"          {outcome.words}")

    def tick(self) -> None:
        """Draws the table anew, or says once a minute what is running."""
        if self._screen.is_terminal:
            self._screen.draw(self.table())
        elif time.monotonic() - self._spoken >= _EVERY:
            self._spoken = time.monotonic()
            counts = Counter(self.state(job) for job in self.jobs)
            words = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
            self._screen.draw([words, *self._stages()])

    def close(self) -> None:
        """Leaves the last state of the table on the screen and one sentence below it."""
        if self._screen.is_terminal:
            self._screen.draw(self.table())
        counts = Counter(outcome.state for outcome in self.ended.values())
        print(", ".join(f"{count} {state}" for state, count in counts.items()) or "no job ended")

    def table(self) -> list[str]:
        """A line per class, a sum, and a line per running job."""
        classes = list(dict.fromkeys(job.class_name for job in self.jobs))
        width = max(map(len, [*classes, "class"]))
        states = {job.id: self.state(job) for job in self.jobs}

        def row(name: str, jobs: Sequence[Job]) -> str:
            counts = Counter(states[job.id] for job in jobs)
            return f"{name:{width}}" + "".join(f"{counts[s] or '-':>11}" for s in _STATES)

        lines = [f"{'class':{width}}" + "".join(f"{state:>11}" for state in _STATES)]
        if len(classes) > 1:
            lines += [row(name, [j for j in self.jobs if j.class_name == name]) for name in classes]
        lines.append(f"{row('all', self.jobs)}   {self.left()}".rstrip())
        return [*lines, *self._stages()]

    def state(self, job: Job) -> str:
        """One of the table's columns."""
        if job.id in self.ended:
            return _STATE_OF[self.ended[job.id].state]
        if job.id not in self._logs:
            return "done"  # before this run
        has_changed = _changed(log_path(job, self.root)) != self._logs[job.id]
        return "running" if has_changed else "to do"

    def left(self) -> str:
        """The time still needed, if the other jobs take as long as those done."""
        done = sum(outcome.state == "done" for outcome in self.ended.values())
        left = len(self.missing) - len(self.ended)
        if not done or not left:
            return ""
        seconds = (time.monotonic() - self._started) / done * left
        return f"about {seconds / 3600:.1f} h left" if seconds > 3600 else f"{seconds:.0f} s left"

    def _stages(self) -> list[str]:
        """A line per running job."""
        running = [job for job in self.missing if self.state(job) == "running"]
        return [f"  {job.id}: {stage(self.root / job.id)}" for job in running]


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


def _changed(path: Path) -> int:
    """When a file was last written to, as the file system counts; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
