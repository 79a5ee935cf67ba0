"""How well images and pixels are told apart: AUROC, AUPRO, average precision, F1.

Every figure that is not defined (one class only, no masks, no defects) is None.
"""

from collections.abc import Sequence
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
    return _figures(np.sort(scores[truth]), [np.sort(scores[~truth])], limits=())


@dataclass
class _Kind:
    """Pixels of all images of one kind of defect (or of the good images)."""

    normals: list[NDArray] = field(default_factory=list)
    defects: list[NDArray] = field(default_factory=list)
    region_weights: list[NDArray] = field(default_factory=list)  # 1 / pixels of the region
    n_regions: int = 0
    is_sorted: bool = False

    def sorted_normals(self) -> NDArray:
        """All normal pixels in one sorted array; sorted once, then kept."""
        if not self.is_sorted:
            merged = _joined(self.normals)
            merged.sort()
            self.normals, self.is_sorted = [merged], True
        return self.normals[0]


class PixelStatistics:
    """Collects anomaly maps image by image; memory is 4 bytes per pixel and nothing more."""

    def __init__(self) -> None:
        self._kinds: dict[str | None, _Kind] = {}  # None holds the good images

    def add(
        self,
        anomaly_map: ArrayLike,  # [H, W]
        mask: ArrayLike | None,  # [H, W] bool, what is defective; None: nothing
        kind: str | None = None,  # of the defect; None for a good image
    ) -> None:
        """Adds one image. Raises ValueError for a NaN or a mask of another size."""
        values = np.asarray(anomaly_map, np.float32)
        _refuse_nan(values, "anomaly map")
        group = self._kinds.setdefault(kind, _Kind())
        group.is_sorted = False
        if mask is None:
            group.normals.append(values.ravel().copy())
            return
        defective = np.asarray(mask, bool)
        if defective.shape != values.shape:
            raise ValueError(
                f"the mask is {list(defective.shape)} and the anomaly map {list(values.shape)}: "
                "resize the mask to the map"
            )
        group.normals.append(values[~defective])
        group.defects.append(values[defective])
        weights, regions = _region_weights(defective)
        group.region_weights.append(weights)
        group.n_regions += regions

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
        _check_limits(limits)
        names = self._kinds if kind is None else (None, kind)
        groups = [self._kinds[name] for name in names if name in self._kinds]
        defects = _joined([part for group in groups for part in group.defects])
        weights = _joined([part for group in groups for part in group.region_weights])
        order = np.argsort(defects, kind="stable")
        regions = sum(group.n_regions for group in groups)
        normals = [group.sorted_normals() for group in groups]
        return _figures(defects[order], normals, limits, weights[order] / max(regions, 1))


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
    pixels = pixels or PixelStatistics()
    result: dict[str, Any] = {
        "image": image_figures(values, truth),
        "pixel": pixels.figures(limits),
        "kinds": {},
    }
    for kind in sorted(set(names[truth])):
        chosen = ~truth | (names == kind)
        result["kinds"][kind] = {
            "n_images": int(np.sum(truth & (names == kind))),
            "image": image_figures(values[chosen], truth[chosen]),
            "pixel": pixels.figures(limits, kind),
        }
    return result


def _figures(
    positives: NDArray,  # [P] sorted
    normals: list[NDArray],  # sorted
    limits: Sequence[float],
    region_weights: NDArray | None = None,  # [P], sum 1
) -> dict[str, float | None]:
    names = ["auroc", "ap", "f1_max", "f1_threshold", *(f"aupro_{limit:g}" for limit in limits)]
    n_normals = sum(len(group) for group in normals)
    if not len(positives) or not n_normals:
        return dict.fromkeys(names)
    above, tied = false_alarms(positives, normals)
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


def _refuse_nan(values: NDArray, what: str) -> None:
    if np.isnan(values).any():
        raise ValueError(f"{what}: {int(np.isnan(values).sum())} of {values.size} values are NaN")


def _check_limits(limits: Sequence[float]) -> None:
    for limit in limits:
        if not 0.0 < limit <= 1.0:
            raise ValueError(f"a limit of the false-positive rate lies in (0, 1], got {limit}")
