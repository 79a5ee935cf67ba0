"""XFeat in auto: loaded when a query needs it, asked before a query is given up."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pose_scenes import lens, orbit, picture, tiny_model, tiny_object, visible
from torch import Tensor

from anomaly import FeatureScorer, make_features
from pipeline.inspector import Inspector
from pose_estimation import (
    MATCHERS,
    Gallery,
    Hypothesis,
    PoseCheck,
    PoseSettings,
    build_gallery,
    rotation_error,
    select_matcher,
)
from pose_estimation.matchers import Entry
from scene import Camera, World, weights


class Fixed:
    """Always these hypotheses; counts how often it is asked."""

    name = "fixed"

    def __init__(self, pose: Tensor) -> None:
        self.pose, self.asked = pose, 0

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        self.asked += 1
        return [Hypothesis(self.pose, 1.0)]

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        return [self.coarse_poses(image, camera) for image in images]


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    cameras = orbit(5)
    images = [picture(tiny_object(), camera) for camera in cameras]
    shapes = [visible(image) for image in images]
    return build_gallery(tiny_model(), cameras, images, shapes, rendered_directions=0)


def test_xfeat_is_loaded_by_the_first_query_that_needs_it(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def make(gallery: Gallery, model: object, folder: Path | None) -> Fixed:
        made.append(folder)
        return Fixed(gallery.world_to_camera[1])

    monkeypatch.setitem(MATCHERS, "xfeat", Entry(make, weights.XFEAT))
    (tmp_path / "xfeat.pt").write_bytes(b"")
    matcher = select_matcher("auto", replace(gallery, background=None), tiny_model(), tmp_path)
    assert made == []
    for _ in range(2):
        best = matcher.matcher.coarse_poses(torch.ones(3, 64, 64), lens())[0]
        assert torch.equal(best.world_to_camera, gallery.world_to_camera[1])
    assert made == [tmp_path]


def test_xfeat_is_the_last_resort_only_where_its_weights_are_at_hand(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    assert select_matcher("auto", gallery, tiny_model(), tmp_path).last is None
    (tmp_path / "xfeat.pt").write_bytes(b"")
    last = select_matcher("auto", gallery, tiny_model(), tmp_path).last
    assert last is not None
    assert last.name == "xfeat"


def test_a_query_is_shown_to_the_last_matcher_before_it_is_given_up() -> None:
    model, camera = tiny_model(), lens()
    true, wrong = (orbit(9)[number].world_to_camera for number in (4, 0))
    right, last = Fixed(true), Fixed(true)
    inspector = Inspector(
        "tiny", model, camera, World(), Fixed(wrong), PoseSettings(method="lm"),
        FeatureScorer(model, make_features("rgb")[0]), last,
        PoseCheck({"median": 0.05, "upper": 0.1, "mismatch": 0.1}, 5, 5),
    )  # fmt: skip
    query = picture(tiny_object(), camera.at(true))[None]
    assert replace(inspector, last_matcher=None).locate(query)[0].pose_ok is False
    found = inspector.locate(query)[0]
    assert found.pose_ok
    assert math.degrees(rotation_error(found.world_to_camera, true)) < 0.5
    assert last.asked == 1
    replace(inspector, matcher=right).locate(query)
    assert last.asked == 1
