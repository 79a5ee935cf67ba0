"""How well images and pixels are told apart: AUROC, AUPRO, average precision, F1.

Every figure that is not defined (one class only, no masks, no defects) is None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .ranking import area_up_to, false_alarms, precision_figures, roc_curve

__all__ = ["PixelStatistics", "evaluate", "image_figures", "roc_curve"]

_EIGHT_NEIGHBOURS = np.ones((3, 3), int)  # pixels that touch at a corner are one region
UNNAMED = "defective"  # the kind of a defect that has no name
PRO_LIMITS = (0.3, 0.05)  # the paper's, and one that is not saturated


def image_figures(
    scores: ArrayLike,  # [n]
    is_anomalous: ArrayLike,  # [n] bool
) -> dict[str, float | None]:
    """`auroc`, `ap`, `f1_max` and the `f1_threshold` (score >= it is a defect) over images.

    Raises ValueError for a score that is NaN, or lengths that differ.
    """
    scores, truth = np.asarray(scores, float), np.asarray(is_anomalous, bool)
    if scores.shape != truth.shape:
        raise ValueError(f"{scores.size} scores but {truth.size} labels: one of each per image")
    _refuse_nan(scores, "scores")
    positives, normals = np.sort(scores[truth]), np.sort(scores[~truth])
    alarms = false_alarms(positives, [normals])
    return _figures(positives, *alarms, len(normals), limits=())


@dataclass(frozen=True)
class _Source:
    """One image: its map [H, W], read when it is needed, and its mask (None: nothing defective)."""

    read: Callable[[], tuple[NDArray, NDArray | None]]
    has_mask: bool


@dataclass
class _Defects:
    """Defective pixels of all images of one kind."""

    values: list[NDArray] = field(default_factory=list)
    region_weights: list[NDArray] = field(default_factory=list)  # 1 / pixels of the region
    n_regions: int = 0


class PixelStatistics:
    """Figures over the pixels of anomaly maps, which are read one at a time, each at most twice.

    What is kept is some 60 bytes for each defective pixel; maps that were given as arrays are kept
    as they are.
    """

    def __init__(self) -> None:
        self._kinds: dict[str | None, list[_Source]] = {}  # None holds the good images

    def add(
        self,
        anomaly_map: ArrayLike,  # [H, W]
        mask: ArrayLike | None,  # [H, W] bool, what is defective; None: nothing
        kind: str | None = None,  # of the defect; None for a good image
    ) -> None:
        """Adds one image. Raises ValueError for a NaN or a mask of another size."""
        values = np.array(anomaly_map, np.float32)
        defective = None if mask is None else np.array(mask, bool)
        _check_map(values, defective)
        self.add_later(lambda: (values, defective), kind, defective is not None)

    def add_later(
        self,
        read: Callable[[], tuple[NDArray, NDArray | None]],  # map and mask, as of `add`
        kind: str | None,
        has_mask: bool,
    ) -> None:
        """Adds one image that is read when figures are asked for."""
        self._kinds.setdefault(kind, []).append(_Source(read, has_mask))

    @classmethod
    def of(
        cls,
        maps: Sequence[ArrayLike],  # [H, W] each
        masks: Sequence[ArrayLike | None],  # [H, W] bool each; None: no mask
        is_anomalous: Sequence[bool | None],
        kinds: Sequence[str | None],
    ) -> "PixelStatistics":
        """Statistics of a whole test set; defective images without a mask are left out."""
        pixels = cls()
        for values, mask, label, kind in zip(maps, masks, is_anomalous, kinds, strict=True):
            if label is False:
                pixels.add(values, None)
            elif label and mask is not None:
                pixels.add(values, mask, kind or UNNAMED)
        return pixels

    def figures(
        self, limits: Sequence[float] = PRO_LIMITS, kind: str | None = None
    ) -> dict[str, float | None]:
        """`auroc`, `ap`, `f1_max`, `f1_threshold` over pixels, and `aupro_<limit>` per limit.

        With a `kind`, of the good images and those of this kind; else of all.
        AUPRO: mean over regions (8-connected) of the share of the region found, against the
        false-positive rate of all normal pixels, integrated up to the limit, divided by it.
        """
        found = self.figures_by_kind(limits)
        return found.get(kind, dict.fromkeys(found[None]))

    def figures_by_kind(
        self, limits: Sequence[float] = PRO_LIMITS
    ) -> dict[str | None, dict[str, float | None]]:
        """`figures` of all images (under None) and of every kind of defect, in two readings.

        The first gathers the defective pixels. The second counts the normal ones between them, by
        which no normal pixel has to be kept.
        """
        _check_limits(limits)
        defects = {kind: _defects_of(sources) for kind, sources in self._kinds.items()}
        steps = np.unique(_joined([v for group in defects.values() for v in group.values]))
        good = _count(self._kinds.get(None, []), steps)
        everything = good.copy()
        found: dict[str | None, dict[str, float | None]] = {}
        for kind, sources in self._kinds.items():
            if kind is not None:
                own = _count(sources, steps)
                everything.join(own)
                own.join(good)
                groups = [defects[name] for name in (None, kind) if name in defects]
                found[kind] = _pixel_figures(groups, own, steps, limits)
        found[None] = _pixel_figures(list(defects.values()), everything, steps, limits)
        return found


@dataclass
class _Counts:
    """Where normal pixels lie among the distinct scores of defects, the steps [S], ascending."""

    above: NDArray  # [S + 1], of normal pixels with so many steps below them
    tied: NDArray  # [S], of normal pixels that are equal to a step
    total: int = 0

    def copy(self) -> "_Counts":
        """Another one of the same counts."""
        return _Counts(self.above.copy(), self.tied.copy(), self.total)

    def join(self, other: "_Counts") -> None:
        """Adds the pixels of other images."""
        self.above += other.above
        self.tied += other.tied
        self.total += other.total

    def false_alarms(self, places: NDArray) -> tuple[NDArray, NDArray]:
        """As `ranking.false_alarms`, of defective pixels whose steps are `places`."""
        above = np.cumsum(self.above[:0:-1])[::-1]  # [S] normals with more than s steps below
        return above[places], above[places] + self.tied[places]


def _defects_of(sources: Sequence[_Source]) -> _Defects:
    found = _Defects()
    for source in sources:
        values, mask = source.read() if source.has_mask else (None, None)
        if values is not None and mask is not None:
            _check_map(values, mask)
            weights, regions = _region_weights(mask)
            found.values.append(values[mask])
            found.region_weights.append(weights)
            found.n_regions += regions
    return found


def _count(sources: Sequence[_Source], steps: NDArray) -> _Counts:
    """The normal pixels of some images among the steps [S]."""
    found = _Counts(np.zeros(len(steps) + 1, np.int64), np.zeros(len(steps), np.int64))
    for source in sources:
        values, mask = source.read()
        _check_map(values, mask)
        normals = values.ravel() if mask is None else values[~mask]
        places = np.searchsorted(steps, normals)
        found.above += np.bincount(places, minlength=len(steps) + 1)
        inside = places < len(steps)
        tied = places[inside][steps[places[inside]] == normals[inside]]
        found.tied += np.bincount(tied, minlength=len(steps))
        found.total += len(normals)
    return found


def _pixel_figures(
    groups: Sequence[_Defects], normals: _Counts, steps: NDArray, limits: Sequence[float]
) -> dict[str, float | None]:
    defects = _joined([part for group in groups for part in group.values])
    weights = _joined([part for group in groups for part in group.region_weights])
    order = np.argsort(defects, kind="stable")
    defects = defects[order]
    regions = sum(group.n_regions for group in groups)
    alarms = normals.false_alarms(np.searchsorted(steps, defects))
    return _figures(defects, *alarms, normals.total, limits, weights[order] / max(regions, 1))


def evaluate(
    scores: Sequence[float],
    is_anomalous: Sequence[bool | None],
    kinds: Sequence[str | None],
    pixels: "PixelStatistics | None" = None,  # of the same images, by the same kinds
    limits: Sequence[float] = PRO_LIMITS,
) -> dict[str, Any]:
    """All figures of a test set, as plain numbers: {"image", "pixel", "kinds": {kind: ...}}.

    Images whose label is None are left out. Raises ValueError for NaN or lengths that differ.
    """
    known = [i for i, label in enumerate(is_anomalous) if label is not None]
    truth = np.array([bool(is_anomalous[i]) for i in known], bool)
    values = np.array([scores[i] for i in known], float)
    names = np.array([kinds[i] or UNNAMED for i in known], object)
    by_kind = (pixels or PixelStatistics()).figures_by_kind(limits)
    nothing = dict.fromkeys(by_kind[None])
    result: dict[str, Any] = {
        "image": image_figures(values, truth),
        "pixel": by_kind[None],
        "kinds": {},
    }
    for kind in sorted(set(names[truth])):
        chosen = ~truth | (names == kind)
        result["kinds"][kind] = {
            "n_images": int(np.sum(truth & (names == kind))),
            "image": image_figures(values[chosen], truth[chosen]),
            "pixel": by_kind.get(kind, nothing),
        }
    return result


def _figures(
    positives: NDArray,  # [P] sorted
    above: NDArray,  # [P] normals above each of them
    tied: NDArray,  # [P] the same with those that are equal
    n_normals: int,
    limits: Sequence[float],
    region_weights: NDArray | None = None,  # [P], sum 1
) -> dict[str, float | None]:
    names = ["auroc", "ap", "f1_max", "f1_threshold", *(f"aupro_{limit:g}" for limit in limits)]
    if not len(positives) or not n_normals:
        return dict.fromkeys(names)
    uniform = np.full(len(positives), 1.0 / len(positives))
    values = [area_up_to(1.0, above, tied, n_normals, uniform)]
    values += precision_figures(positives, tied)
    shares = uniform if region_weights is None else region_weights
    values += [area_up_to(limit, above, tied, n_normals, shares) for limit in limits]
    return dict(zip(names, values, strict=True))


def _region_weights(mask: NDArray) -> tuple[NDArray, int]:
    """1 / (pixels of its region) for each defective pixel in raster order, number of regions."""
    from scipy import ndimage

    labels, regions = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    inside = labels[mask]
    return 1.0 / np.bincount(inside)[inside] if regions else np.empty(0), regions


def _joined(parts: list[NDArray]) -> NDArray:
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _check_map(values: NDArray, mask: NDArray | None) -> None:
    _refuse_nan(values, "anomaly map")
    if mask is not None and mask.shape != values.shape:
        raise ValueError(
            f"the mask is {list(mask.shape)} and the anomaly map {list(values.shape)}: "
            "resize the mask to the map"
        )


def _refuse_nan(values: NDArray, what: str) -> None:
    if np.isnan(values).any():
        raise ValueError(f"{what}: {int(np.isnan(values).sum())} of {values.size} values are NaN")


def _check_limits(limits: Sequence[float]) -> None:
    for limit in limits:
        if not 0.0 < limit <= 1.0:
            raise ValueError(f"a limit of the false-positive rate lies in (0, 1], got {limit}")
