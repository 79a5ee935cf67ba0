"""When the learnt networks may compute in half precision."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pose_scenes import WHITE, orbit, picture, tiny_object, visible

from anomaly.efficientnet import EfficientNetFeatures
from pipeline.precision import learnt_parts, settle_precision
from pose_estimation import build_gallery
from pose_estimation.matchers.loftr import LoftrMatcher, make_loftr
from scene import InputError

PATHS = [Path(f"{number}.png") for number in range(30)]


class Judge:
    """An inspector whose scores move by `change` in half precision; 0.png cannot be read."""

    def __init__(self, change: float) -> None:
        self.change, self.seen = change, []  # type: ignore[var-annotated]
        self.matcher = SimpleNamespace(name="classical")
        self.scorer = SimpleNamespace(features=SimpleNamespace(half=False))

    def inspect(self, path: Path) -> Any:
        if path.name == "0.png":
            raise InputError("broken")
        half = self.scorer.features.half
        self.seen.append((path.name, half))
        return SimpleNamespace(score=7.0 * (1 + self.change * half))


@pytest.mark.parametrize(
    ("change", "half"), [(0.0, True), (4e-4, True), (6e-4, False), (float("nan"), False)]
)
def test_auto_on_a_gpu_takes_half_only_if_the_scores_stay(change: float, half: bool) -> None:
    judge: Any = Judge(change)
    words = settle_precision(judge, "auto", PATHS, "cuda")
    assert judge.scorer.features.half is half
    assert words.startswith("half: 3 queries" if half else "single: 3 queries")
    assert judge.seen == [(f"{n}.png", is_half) for n in (1, 2, 3) for is_half in (False, True)]


@pytest.mark.parametrize(
    ("asked", "device", "count", "half", "words"),
    [
        ("single", "cuda", 30, False, "single, as asked for"),
        ("half", "cuda", 30, True, "half, as asked for"),
        ("half", "cpu", 30, True, "half, as asked for"),
        ("auto", "cpu", 30, False, "single: no GPU"),
        ("auto", "cuda", 5, False, "single: half precision is not tried for fewer than 20"),
    ],
)
def test_what_is_not_tried(asked: Any, device: str, count: int, half: bool, words: str) -> None:
    judge: Any = Judge(0.0)
    assert settle_precision(judge, asked, PATHS[:count], device).startswith(words)
    assert judge.scorer.features.half is half
    assert judge.seen == []


def test_without_networks_or_readable_queries_it_stays_single() -> None:
    judge: Any = Judge(0.0)
    assert "no query" in settle_precision(judge, "auto", PATHS[:1] * 30, "cuda")
    judge.scorer = SimpleNamespace()
    assert learnt_parts(judge) == []
    assert settle_precision(judge, "half", PATHS, "cuda") == "single: no learnt network runs"


def test_networks_in_half_precision_are_the_same_networks() -> None:
    network = pytest.importorskip("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b4")
    features = EfficientNetFeatures(network)
    first, second = torch.rand(2, 1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    single = features.difference(first, second)
    features.half = True
    half = features.difference(first, second)
    assert half.dtype == torch.float32
    assert 0 < float((half - single).abs().max()) < 0.05 * float(single.max())


def test_loftr_in_half_precision_counts_about_the_same() -> None:
    pytest.importorskip("kornia.feature")
    torch.manual_seed(0)
    gaussians, cameras = tiny_object(), orbit(3)
    images = [picture(gaussians, camera) for camera in cameras]
    shapes = [visible(image) for image in images]
    gallery = build_gallery(gaussians, cameras, images, shapes, WHITE, rendered_directions=0)
    matcher = LoftrMatcher(gallery, make_loftr())
    single = matcher.match_counts(images[1])
    matcher.half = True
    half = matcher.match_counts(images[1])
    assert half.shape == single.shape
    assert int(single.max()) > 0
    assert int((half - single).abs().max()) <= 3
