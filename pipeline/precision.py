"""Whether the learnt networks compute in half precision: only where it does not move the scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from scene import InputError

from .inspector import Inspector

PrecisionName = Literal["auto", "single", "half"]
SAME_TO = 5e-4  # relative: scores that agree to three digits
_TRIALS = 3  # queries that are judged in both
_WORTH_IT = 20  # queries, at least, for which it is tried


class Learnt(Protocol):
    """A network that can compute in 16 bits."""

    half: bool


def learnt_parts(inspector: Inspector) -> list[Learnt]:
    """The networks of an inspector: LoFTR, EfficientNet-b4, both or none."""
    parts: tuple[Any, ...] = (inspector.matcher, getattr(inspector.scorer, "features", None))
    return [part for part in parts if hasattr(part, "half")]


def settle_precision(
    inspector: Inspector, asked: PrecisionName, queries: Sequence[Path], device: str
) -> str:
    """Sets the precision of the whole run, and says in words which it is and why.

    "auto" on a GPU judges the first queries twice, from the file to the score. Half precision is
    taken if every score is the same to three digits.
    """
    parts = learnt_parts(inspector)
    if not parts:
        return "single: no learnt network runs"
    if asked != "auto" or device != "cuda":
        _set(parts, asked == "half")
        return f"{asked}, as asked for" if asked != "auto" else "single: no GPU"
    if len(queries) < _WORTH_IT:
        _set(parts, False)
        return f"single: half precision is not tried for fewer than {_WORTH_IT} queries"
    return try_half(inspector, parts, queries)


def try_half(inspector: Inspector, parts: Sequence[Learnt], queries: Sequence[Path]) -> str:
    """Judges the first readable queries in both precisions and sets the one to use."""
    moved: list[float] = []
    for path in queries:
        if len(moved) == _TRIALS:
            break
        scores = []
        for half in (False, True):
            _set(parts, half)
            try:
                scores.append(inspector.inspect(path).score)
            except InputError:  # the run will report it
                break
        else:
            moved.append(abs(scores[1] - scores[0]) / max(abs(scores[0]), 1e-12))
    same = bool(moved) and all(change < SAME_TO for change in moved)  # False for nan
    _set(parts, same)
    if not moved:
        return "single: no query could be judged in both precisions"
    found = f"{len(moved)} queries judged in both differ by at most {max(moved):.1e} of the score"
    return f"half: {found}" if same else f"single: {found}, which is more than {SAME_TO:.0e}"


def _set(parts: Sequence[Learnt], half: bool) -> None:
    for part in parts:
        part.half = half
