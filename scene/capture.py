"""A capture: the train views with their cameras, and the queries whose cameras are not known."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .camera import Camera
from .distortion import Distortion
from .world import World

Colour = tuple[float, float, float]  # red, green, blue, 0..1


class PointCloud(NamedTuple):
    """Coloured points to start from."""

    xyz: Tensor  # [M, 3] float32, world units
    rgb: Tensor  # [M, 3] float32, 0..1


@dataclass(frozen=True)
class View:
    """A posed, defect-free image of the object."""

    name: str  # path inside the capture without its extension: "train/good/0"
    image_path: Path
    camera: Camera  # already of the size at which the image is to be read
    lens: Distortion | None = None  # to be undone in the image; None: it is a pinhole's
    mask_path: Path | None = None  # where the object is, if a file of its own says so


@dataclass(frozen=True)
class Query:
    """An image to be inspected. Its camera pose is unknown."""

    name: str  # "good/0", "Burrs/3"; the file's stem for loose images
    image_path: Path
    label: str | None = None  # folder name ("good", "Burrs") where the data set has one
    mask_path: Path | None = None  # ground truth of the defect
    is_anomalous: bool | None = None  # None where no label says so


@dataclass(frozen=True)
class Capture:
    """Everything that one data folder says about one object."""

    name: str
    root: Path
    format: str  # an entry of scene.readers.FORMATS
    views: tuple[View, ...]
    queries: tuple[Query, ...]
    background: Colour | None  # None: no single colour stands behind the object
    points: PointCloud | None = None  # from structure from motion, where there was one
    world: World = field(default_factory=World)  # of all cameras and points here
    white: float | None = None  # what means 1 in files of more than 8 bits, if not their highest


def subset_views(views: Sequence[View], fraction: float, seed: int) -> tuple[View, ...]:
    """A random share of the views (at least one), in their old order; the same for a seed.

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], not {fraction}")
    count = max(1, round(fraction * len(views)))
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(seed))
    return tuple(views[i] for i in sorted(order[:count].tolist()))


def split_holdout(
    views: Sequence[View],
    every: int = 10,
    first: int | None = None,
) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """(train, held out): every `every`-th view is held out, none when there are fewer than that.

    `first` (0 to every - 1) is the number of the first of them; by default they sit in the middle
    of each group of `every`, so the first and last views stay.

    Raises:
        ValueError: `every` is below 2, or `first` not in its range.
    """
    if every < 2:
        raise ValueError(f"every must be at least 2, not {every}")
    first = every // 2 if first is None else first
    if not 0 <= first < every:
        raise ValueError(f"first must lie in 0 to {every - 1}, not {first}")
    is_held = [i % every == first and len(views) >= every for i in range(len(views))]
    train = tuple(view for view, held in zip(views, is_held, strict=True) if not held)
    return train, tuple(view for view, held in zip(views, is_held, strict=True) if held)
