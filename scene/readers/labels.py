"""What the folders of a test set say: which of them hold good images."""

import re
from collections.abc import Collection, Sequence

from ..capture import Query
from ..errors import InputError

# `good`, `OK`, `normal-2`, `good_bright`: MAD and RAD have one such folder, MIP one for each light.
_BEGINS = re.compile(r"(good|okay|ok|normal)(?![a-z])")
_WHOLE = {
    "pass", "passed", "nominal", "intact", "flawless", "undamaged", "io", "i_o", "defect_free",
    "defectfree", "no_defect", "no_defects", "nodefect", "non_defective", "nondefective",
    "anomaly_free", "no_anomaly",
}  # fmt: skip


def is_good_label(label: str, good_labels: Collection[str] = ()) -> bool:
    """Whether a folder of this name holds good images; `good_labels` are further such names."""
    name = _canonical(label)
    if name in {_canonical(known) for known in good_labels}:
        return True
    return name in _WHOLE or _BEGINS.match(name) is not None


def check_good_labels(queries: Sequence[Query], good_labels: Collection[str]) -> None:
    """Refuses a name that no folder has.

    Raises:
        InputError: the folders that there are, are listed.
    """
    labels = {query.label for query in queries if query.label is not None}
    known = {_canonical(label) for label in labels}
    for wanted in good_labels:
        if _canonical(wanted) not in known:
            found = ", ".join(sorted(labels)) or "none"
            raise InputError(
                f"--good-label {wanted}: there is no such folder: choose one of those found "
                f"({found})."
            )


def label_summary(queries: Sequence[Query]) -> str:
    """How every folder was taken, in one line; "" without labels."""
    counts: dict[tuple[str, bool], int] = {}
    for query in queries:
        if query.label is not None:
            key = (query.label, bool(query.is_anomalous))
            counts[key] = counts.get(key, 0) + 1
    if not counts:
        return ""
    taken = ", ".join(
        f"{label}: {count} {'defective' if is_anomalous else 'good'}"
        for (label, is_anomalous), count in counts.items()
    )
    if all(is_anomalous for _, is_anomalous in counts):
        taken += " (none is taken for good: name it with --good-label)"
    return f"labels by folder: {taken}"


def _canonical(label: str) -> str:
    return re.sub(r"[\s\-.]+", "_", label.casefold()).strip("_")
