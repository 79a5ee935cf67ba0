"""A short run of the fuzzer over all readers; long ones: python -m tests.fuzz readers."""

import random
from pathlib import Path

import pytest
from captures import write_mad

from scene import InputError, read_capture
from tests.fuzz import readers


def test_damaged_files_give_a_value_or_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert readers.run(cases=200, seed=0) == 0, capsys.readouterr().out
    assert "200 cases of seed 0" in capsys.readouterr().out


def test_the_fuzzer_tells_wrong_values_and_tracebacks(tmp_path: Path) -> None:
    root = write_mad(tmp_path / "dog", 3, {"good": 1})
    path = root / "transforms.json"

    def raises(error: Exception) -> readers.Check:
        def check() -> list[str]:
            raise error

        return check

    outcomes = {
        "value": lambda: [],
        "wrong value": lambda: ["it is wrong"],
        "refused": raises(InputError("One sentence.")),
        "traceback": raises(KeyError("key")),
    }
    for outcome, check in outcomes.items():
        subject = readers.Subject("poses", path, lambda content, dice: b"{", check)
        assert readers.run_case(subject, random.Random(0))[0] == outcome
    assert len(read_capture(root).views) == 3  # the file is put back
