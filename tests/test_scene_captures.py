"""Subsets and hold-outs of views."""

from pathlib import Path

import pytest
import torch
from captures import camera_at

from scene import View, split_holdout, subset_views

VIEWS = tuple(View(str(i), Path(f"{i}.png"), camera_at(torch.eye(4))) for i in range(21))


def names(views: tuple[View, ...]) -> list[str]:
    return [view.name for view in views]


def test_holdout() -> None:
    train, held_out = split_holdout(VIEWS, every=10)
    assert names(held_out) == ["5", "15"]
    assert names(train) == [name for name in names(VIEWS) if name not in ("5", "15")]
    assert split_holdout(VIEWS[:9], every=10) == (VIEWS[:9], ())
    with pytest.raises(ValueError, match="at least 2"):
        split_holdout(VIEWS, every=1)


def test_folds_hold_every_view_out_once() -> None:
    folds = [split_holdout(VIEWS, every=5, first=first) for first in range(5)]
    assert sorted(int(name) for _, held in folds for name in names(held)) == list(range(21))
    assert all(len(train) + len(held) == 21 for train, held in folds)
    with pytest.raises(ValueError, match="first must lie in 0 to 4"):
        split_holdout(VIEWS, every=5, first=5)


def test_subset() -> None:
    some = subset_views(VIEWS, 0.4, seed=3)
    assert len(some) == 8
    assert sorted(names(some), key=int) == names(some)
    assert some == subset_views(VIEWS, 0.4, seed=3)
    assert some != subset_views(VIEWS, 0.4, seed=4)
    assert subset_views(VIEWS, 1.0, seed=3) == VIEWS
    assert len(subset_views(VIEWS, 0.001, seed=3)) == 1
    for fraction in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="must lie in"):
            subset_views(VIEWS, fraction, seed=0)
