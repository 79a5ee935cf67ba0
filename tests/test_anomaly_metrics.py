"""AUROC, AUPRO, average precision and F1 against hand, scikit-learn and a naive AUPRO."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from anomaly import PixelStatistics, evaluate, image_figures, roc_curve


def naive_aupro(maps, masks, limit):
    """The curve point by point over every distinct threshold; the definition."""
    labels = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks]
    scores = np.concatenate([m.ravel() for m in maps])
    normal = np.concatenate([m[~k].ravel() for m, k in zip(maps, masks, strict=True)])
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        rates.append(np.mean(normal >= threshold))
        shares = [
            np.mean(values[label == region] >= threshold)
            for values, label in zip(maps, labels, strict=True)
            for region in range(1, label.max() + 1)
        ]
        overlaps.append(np.mean(shares))
    rates, overlaps = np.array(rates), np.array(overlaps)
    last = int(np.argmax(rates >= limit))  # the first threshold at or past the limit
    at_limit = np.interp(limit, rates[last - 1 : last + 1], overlaps[last - 1 : last + 1])
    heights, places = np.append(overlaps[:last], at_limit), np.append(rates[:last], limit)
    return np.trapezoid(heights, places) / limit


def images(seed, levels=None, n=6, size=16):
    """Random maps that see blocky defects a little; `levels` distinct values give ties."""
    rng = np.random.default_rng(seed)
    masks = [ndimage.binary_dilation(rng.random((size, size)) > 0.98) for _ in range(n)]
    maps = [rng.random((size, size)) + 0.5 * mask for mask in masks]
    if levels:
        maps = [np.round(m * levels) / levels for m in maps]
    return [m.astype(np.float32) for m in maps], masks


def test_image_figures_by_hand():
    figures = image_figures([1, 2, 3, 4], [False, True, False, True])
    assert figures["auroc"] == pytest.approx(3 / 4)  # three of the four pairs are in order
    assert figures["ap"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert figures["f1_max"] == pytest.approx(2 * 2 / (2 + 1 + 2))
    assert figures["f1_threshold"] == 2


def test_a_tie_counts_half():
    assert image_figures([1, 1], [False, True])["auroc"] == pytest.approx(0.5)


@pytest.mark.parametrize("levels", [None, 5])
def test_image_figures_match_scikit_learn(levels):
    rng = np.random.default_rng(3)
    truth = rng.random(200) < 0.4
    scores = rng.normal(size=200) + truth
    if levels:
        scores = np.round(scores * levels) / levels
    figures = image_figures(scores, truth)
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert figures["auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert figures["ap"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert figures["f1_max"] == pytest.approx(f1.max(), abs=1e-12)
    flagged = scores >= figures["f1_threshold"]
    reached = 2 * np.sum(flagged & truth) / (np.sum(flagged) + np.sum(truth))
    assert reached == pytest.approx(figures["f1_max"], abs=1e-12)


def test_roc_curve_has_the_area_and_the_ends():
    truth = np.array([0, 1, 1, 0, 1, 0], bool)
    scores = np.array([1, 2, 2, 2, 3, 0.0])
    rates, hits = roc_curve(scores[truth], scores[~truth])
    assert (rates[0], hits[0], rates[-1], hits[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(hits, rates) == pytest.approx(roc_auc_score(truth, scores))


def test_aupro_by_hand():
    """Two regions of one and two pixels, four normal pixels, no ties."""
    anomaly_map = np.array([[0.9, 0.1, 0.5, 0.3], [0.2, 0.4, 0.8, 0.05]], np.float32)
    mask = np.array([[1, 0, 0, 1], [0, 0, 0, 1]], bool)
    # descending: .9 (region 1), .8 n, .5 n, .4 n, .3 (half of region 2), .2 n, .1 n, .05 (rest)
    statistics = PixelStatistics()
    statistics.add(anomaly_map, mask, "scratch")
    figures = statistics.figures(limits=[1.0, 0.3])
    assert figures["aupro_1"] == pytest.approx((3 / 5) * 0.5 + (2 / 5) * 0.75)
    assert figures["aupro_0.3"] == pytest.approx(0.5)


@pytest.mark.parametrize("limit", [1.0, 0.3, 0.05, 0.013])
@pytest.mark.parametrize("levels", [None, 8])
def test_aupro_matches_the_naive_curve(limit, levels):
    maps, masks = images(1, levels)
    statistics = PixelStatistics()
    for values, mask in zip(maps, masks, strict=True):
        statistics.add(values, mask, "any")
    figures = statistics.figures([limit])
    assert figures[f"aupro_{limit:g}"] == pytest.approx(naive_aupro(maps, masks, limit), abs=1e-10)


def pixels_of(maps, masks, kinds):
    """Statistics of good images (without masks) and of defective ones."""
    statistics = PixelStatistics()
    for values, mask, kind in zip(maps, masks, kinds, strict=True):
        statistics.add(values, mask, None if mask is None else kind)
    return statistics


@pytest.mark.parametrize("levels", [None, 8])
def test_pixel_figures_match_scikit_learn_in_all_and_per_kind(levels):
    maps, masks = images(2, levels)
    masks[0] = masks[1] = np.zeros_like(masks[0])
    kinds = ["good", "good", "Burrs", "Burrs", "Stains", "Stains"]
    anomalous = [kind != "good" for kind in kinds]
    scores = [m.max() for m in maps]
    result = evaluate(scores, anomalous, kinds, pixels_of(maps, [None, None, *masks[2:]], kinds))
    for kind in (None, "Burrs", "Stains"):
        chosen = [i for i, name in enumerate(kinds) if kind is None or name in ("good", kind)]
        truth = np.concatenate([masks[i].ravel() for i in chosen])
        values = np.concatenate([maps[i].ravel() for i in chosen])
        figures = result["pixel"] if kind is None else result["kinds"][kind]["pixel"]
        assert figures["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-10)
        assert figures["ap"] == pytest.approx(average_precision_score(truth, values), abs=1e-10)
        some = [maps[i] for i in chosen], [masks[i] for i in chosen]
        assert figures["aupro_0.3"] == pytest.approx(naive_aupro(*some, 0.3), abs=1e-10)
    assert result["kinds"]["Burrs"]["n_images"] == 2


def test_undefined_figures_are_none():
    flat = np.zeros((4, 4), np.float32)
    only_good = evaluate(
        [1.0, 2.0], [False, False], ["good"] * 2, pixels_of([flat, flat], [None, None], ["", ""])
    )
    assert only_good["image"]["auroc"] is None
    assert only_good["pixel"]["aupro_0.3"] is None
    assert only_good["kinds"] == {}
    without_masks = evaluate(
        [1.0, 2.0], [False, True], ["good", "Burrs"], pixels_of([flat], [None], ["good"])
    )
    assert without_masks["image"]["auroc"] == 1.0
    assert without_masks["pixel"]["auroc"] is None
    assert without_masks["kinds"]["Burrs"]["pixel"]["aupro_0.05"] is None
    nothing = evaluate([1.0], [None], [None])
    assert nothing["image"] == dict.fromkeys(["auroc", "ap", "f1_max", "f1_threshold"])


def test_nan_and_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        image_figures([1.0, np.nan], [True, False])
    with pytest.raises(ValueError, match="NaN"):
        PixelStatistics().add(np.full((2, 2), np.nan), None)
    with pytest.raises(ValueError, match="resize the mask"):
        PixelStatistics().add(np.zeros((2, 2)), np.zeros((3, 3), bool), "Burrs")
    with pytest.raises(ValueError, match="limit"):
        PixelStatistics().figures([0.0])


def test_images_can_be_added_after_figures_were_taken():
    maps, masks = images(5)
    early, late = PixelStatistics(), PixelStatistics()
    for values, mask in zip(maps, masks, strict=True):
        early.add(values, mask, "any")
        early.figures()
        late.add(values, mask, "any")
    assert early.figures() == late.figures()
