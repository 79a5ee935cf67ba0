"""The table of jobs by class and state, on a terminal and elsewhere."""

import io
from pathlib import Path

import pytest

from benchmarks.paper import progress as module
from benchmarks.paper.jobs import Job
from benchmarks.paper.progress import Progress, stage
from benchmarks.paper.screen import Screen
from benchmarks.paper.work import Outcome


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def shown(text: str) -> list[str]:
    """The lines that a reader of a terminal sees: plays "up n lines, clear" back."""
    lines = [""]
    for part in text.replace("\x1b[", "\0").split("\0"):
        number, sign, rest = part.partition("F")
        if sign and number.isdigit():
            lines = [*lines[: len(lines) - 1 - int(number)], ""]
            part = rest
        elif part.startswith("J"):
            part = part[1:]
        for i, piece in enumerate(part.split("\n")):
            if i:
                lines.append("")
            lines[-1] += piece
    return lines[:-1]


def test_screen_draws_over_what_it_drew() -> None:
    stream = Terminal()
    screen = Screen(stream)
    screen.draw(["a", "b", "c"])
    screen.say("stays")
    screen.draw(["d", "e"])
    screen.draw(["f"])
    assert shown(stream.getvalue()) == ["stays", "f"]


def test_screen_cuts_at_the_terminals_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: (10, 4))
    stream = Terminal()
    Screen(stream).draw(["x" * 30] * 9)
    assert shown(stream.getvalue()) == ["x" * 9] * 3


def test_elsewhere_nothing_is_drawn_over() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.draw(["a"])
    screen.say("b")
    screen.draw(["c" * 300])
    assert stream.getvalue() == f"a\nb\n{'c' * 300}\n"


@pytest.fixture
def jobs() -> list[Job]:
    """Two classes, two seeds."""
    return [Job(n, n, "splatpose-default", s, 1.0) for n in ("Cat", "Owl") for s in (0, 1)]


def test_jobs_are_counted_by_class_and_state(
    jobs: list[Job], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old_log = tmp_path / jobs[3].id / "log.txt"  # of an interrupted run: to do, not running
    old_log.parent.mkdir()
    old_log.touch()
    progress = Progress(jobs, jobs[1:], tmp_path)  # the first was finished before
    running = tmp_path / jobs[2].id
    (running / "model").mkdir(parents=True)
    (running / "log.txt").touch()
    (running / "model/metrics.jsonl").write_text('{"iteration": 40}\n{"itera')
    progress.add(Outcome(jobs[1].id, "failed", 3.0, "no such image"))
    header, cat, owl, everything, now = progress.table()
    assert header.split() == ["class", "to", "do", "running", "done", "failed", "elsewhere"]
    assert cat.split() == ["Cat", "-", "-", "1", "1", "-"]
    assert owl.split() == ["Owl", "1", "1", "-", "-", "-"]
    assert everything.split() == ["all", "1", "1", "1", "1", "-"]
    assert now == f"  {jobs[2].id}: training, iteration 40"
    progress.add(Outcome(jobs[2].id, "done", 9.0))
    progress.add(Outcome(jobs[3].id, "busy", words="another process"))
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["[1/3]", jobs[1].id]
    assert lines[1].strip() == "no such image"
    assert lines[-1] == "1 failed, 1 done, 1 busy"


def test_lines_instead_of_a_table_where_there_is_no_terminal(
    jobs: list[Job], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    progress = Progress(jobs, jobs, tmp_path)
    (tmp_path / jobs[0].id).mkdir()
    (tmp_path / jobs[0].id / "log.txt").touch()
    progress.tick()
    assert capsys.readouterr().out == ""  # not a minute has passed
    monkeypatch.setattr(module, "_EVERY", 0.0)
    progress.tick()
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["3 to do, 1 running", f"  {jobs[0].id}: at work"]


def test_table_is_drawn_on_a_terminal(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    progress = Progress(jobs, jobs, tmp_path)
    progress.tick()
    progress.add(Outcome(jobs[0].id, "done", 9.0))
    progress.tick()
    progress.close()
    lines = shown(stream.getvalue())
    assert lines[0].split()[:4] == ["[1/4]", jobs[0].id, "done", "9"]
    assert lines[1].split()[0] == "class"
    assert len(lines) == 1 + 4 + 1  # drawn once, though asked for three times
    assert lines[-1] == "1 done"


def test_stages_in_words(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert stage(tmp_path) == "starting"
    (tmp_path / "model/config.json").touch()
    assert stage(tmp_path) == "between two stages"
    (tmp_path / "adam25/overlays/good").mkdir(parents=True)
    (tmp_path / "adam25/overlays/good/0.jpg").touch()
    assert stage(tmp_path) == "detections adam25, 1 images"
