"""The registry; LoFTR and XFeat behind it, with random weights: the flow, not the accuracy."""

import math

import pytest
import torch
import tyro
from pose_scenes import lens, orbit, picture, tiny_model, tiny_object, visible
from torch import Tensor

from detect import DetectConfig
from doctor import check_weights
from pose_estimation import (
    MATCHERS,
    Gallery,
    Hypothesis,
    build_gallery,
    matcher_names,
    rotation_error,
    select_matcher,
)
from pose_estimation.matchers import Entry, loftr, xfeat
from scene import Camera, InputError, weights

SIZE = 64


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    gaussians, cameras = tiny_object(), orbit(5)
    images = [picture(gaussians, camera) for camera in cameras]
    return build_gallery(
        tiny_model(), cameras, images, [visible(i) for i in images], rendered_directions=0
    )


class FirstView:
    """A matcher that a test adds: always the first train view."""

    name = "first_view"

    def __init__(self, gallery: Gallery) -> None:
        self._pose = gallery.world_to_camera[0]

    def coarse_poses(self, image: Tensor, camera: Camera) -> list[Hypothesis]:
        return [Hypothesis(self._pose, 1.0)]

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        return [self.coarse_poses(image, camera) for image in images]


def test_one_entry_adds_a_matcher(gallery, monkeypatch):
    file = weights.WeightFile("First", "first.pt", "https://example.org/first.pt")
    entry = Entry(lambda gallery, model, folder: FirstView(gallery), file)
    monkeypatch.setitem(MATCHERS, "first_view", entry)
    matcher = select_matcher("first_view", gallery, tiny_model()).matcher
    best = matcher.coarse_poses(torch.ones(3, SIZE, SIZE), lens())[0]
    assert torch.equal(best.world_to_camera, gallery.world_to_camera[0])
    names = ["auto", "silhouette", "landmarks", "gradients", "xfeat", "loftr", "first_view"]
    assert matcher_names() == names
    assert any("first.pt" in finding.state for finding in check_weights())
    with pytest.raises(InputError, match=", ".join(names)):
        select_matcher("sift", gallery, tiny_model())


def test_the_command_line_names_the_matchers_and_knows_the_old_one(gallery, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(DetectConfig, args=["--help"])
    assert "auto|silhouette|landmarks|gradients|xfeat|loftr" in capsys.readouterr().out
    asked = tyro.cli(DetectConfig, args=["-m", "out/x", "--matcher", "classical"]).matcher
    assert select_matcher(asked, gallery, tiny_model()).matcher.name == "silhouette"


def test_auto_matches_by_silhouettes_on_a_plain_background(gallery):
    selection = select_matcher("auto", gallery, tiny_model())
    assert selection.matcher.name == "silhouette"
    assert "plain background" in selection.reason


@pytest.fixture(scope="module")
def loftr_model():
    torch.manual_seed(0)
    model = loftr.make_loftr()
    model.coarse_matching.thr = 0.0  # random weights make no confident matches
    return model


def test_loftr_uses_the_corrected_positional_encoding(loftr_model):
    assert loftr_model.config["coarse"]["temp_bug_fix"] is True
    assert not loftr_model.training


def test_loftr_counts_as_many_matches_as_the_whole_network(gallery, loftr_model):
    matcher = loftr.LoftrMatcher(gallery, loftr_model)
    query = picture(tiny_object(), orbit(9)[4])
    counts = matcher.match_counts(query)
    grey = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    for view in range(len(gallery)):
        pair = {
            "image0": (query * grey).sum(0)[None, None],
            "image1": (gallery.image(view) * grey).sum(0)[None, None],
        }
        with torch.no_grad():
            whole = loftr_model(pair)
        # features of the views are kept in half precision: near-ties may fall the other way
        assert abs(len(whole["keypoints0"]) - int(counts[view])) <= 2
    assert counts.sum() > 0


def test_loftr_encodes_every_train_view_once(gallery, loftr_model):
    calls = []
    handle = loftr_model.backbone.register_forward_hook(lambda *_: calls.append(1))
    matcher = loftr.LoftrMatcher(gallery, loftr_model)
    assert len(calls) == len(gallery)
    for camera in orbit(3):
        matcher.coarse_poses(picture(tiny_object(), camera), lens())
    handle.remove()
    assert len(calls) == len(gallery) + 3


def test_loftr_gives_the_view_with_most_matches_first(gallery, loftr_model, monkeypatch):
    matcher = loftr.LoftrMatcher(gallery, loftr_model)
    monkeypatch.setattr(matcher, "match_counts", lambda image: torch.tensor([3, 9, 1, 9, 4]))
    found = matcher.coarse_poses(torch.rand(3, SIZE, SIZE), lens())
    assert [h.score for h in found] == [9, 9, 4, 3, 1]
    assert torch.equal(found[0].world_to_camera, gallery.world_to_camera[1])


def test_loftr_accepts_any_image_size(gallery, loftr_model):
    matcher = loftr.LoftrMatcher(gallery, loftr_model)
    assert matcher.match_counts(torch.rand(3, 50, 71)).shape == (5,)


def test_missing_weights_are_named_with_address_and_folder(gallery, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    for name, file in (("loftr", weights.LOFTR), ("xfeat", weights.XFEAT)):
        with pytest.raises(InputError) as caught:
            select_matcher(name, gallery, tiny_model(), tmp_path)
        for part in (file.name, file.address, str(tmp_path)):
            assert part in str(caught.value)


def test_auto_falls_back_with_a_reason_where_the_background_is_unknown(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(weights, "cache_folder", lambda: tmp_path / "cache")
    gaussians, cameras = tiny_object(), orbit(4)
    images = [picture(gaussians, camera) for camera in cameras]
    gallery = build_gallery(tiny_model(), cameras, images, None)
    selection = select_matcher("auto", gallery, tiny_model())
    assert selection.matcher.name == "silhouette"
    assert "XFeat" in selection.reason
    assert "\n" not in selection.reason


def test_weights_are_read_from_the_folder_and_must_fit(loftr_model, tmp_path):
    torch.save({"state_dict": loftr_model.state_dict()}, tmp_path / weights.LOFTR.name)
    loaded = loftr.load_loftr(tmp_path)
    for name, value in loftr_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    torch.save({"state_dict": {"foreign": torch.zeros(1)}}, tmp_path / weights.LOFTR.name)
    with pytest.raises(InputError, match="does not fit"):
        loftr.load_loftr(tmp_path)
    (tmp_path / weights.LOFTR.name).write_bytes(b"not weights")
    with pytest.raises(InputError, match="cannot be read"):
        loftr.load_loftr(tmp_path)


def test_weights_may_have_another_name(tmp_path):
    from kornia.feature import XFeat

    torch.manual_seed(0)
    state = XFeat().net.state_dict()
    torch.save(state, tmp_path / weights.XFEAT.also[0])
    loaded = xfeat.load_xfeat(tmp_path).net.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_mutual_matches():
    eye = torch.eye(4)
    first, second = xfeat.mutual_matches(eye[[0, 2, 2]], eye[[3, 2, 0]])
    assert first.tolist() == [0, 1]
    assert second.tolist() == [2, 1]
    assert len(xfeat.mutual_matches(eye, eye[:0])[0]) == 0


class MarkedPoints:
    """Stands for XFeat: finds given 3D points in the order in which pictures are asked for."""

    def __init__(self, cameras, points):
        self._cameras, self._points = iter(cameras), points

    def eval(self):
        return self

    def detectAndCompute(self, images, top_k):
        camera = next(self._cameras)
        local = self._points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        pixels = local @ camera.intrinsics.T
        keypoints = (pixels[:, :2] / pixels[:, 2:] - 0.5).float()
        return [{"keypoints": keypoints, "descriptors": torch.eye(len(local))}]


def test_xfeat_lifts_keypoints_and_solves_for_the_pose(gallery, monkeypatch):
    true = orbit(11)[6]
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(2)).double() * 0.3
    network = MarkedPoints([*orbit(5), true], points)

    def lifted(self, model, view):
        _, descriptors = self._detect(gallery.image(view))
        return xfeat.LiftedView(points, descriptors)

    monkeypatch.setattr(xfeat.XFeatMatcher, "_lift", lifted)
    matcher = xfeat.XFeatMatcher(gallery, tiny_model(), network)
    best = matcher.coarse_poses(picture(tiny_object(), true), lens())[0]
    assert best.score == 40
    assert math.degrees(rotation_error(best.world_to_camera, true.world_to_camera)) < 0.01


def test_xfeat_depth_puts_points_on_the_object(gallery):
    camera = gallery.camera(2)
    network = MarkedPoints(orbit(5), torch.zeros(1, 3, dtype=torch.float64) + 0.02)
    matcher = xfeat.XFeatMatcher(gallery, tiny_model(), network)
    points = matcher._views[2].points
    assert len(points) <= 1
    distance = (points - camera.centre).norm(dim=1)
    assert ((distance > 3) & (distance < 5)).all()


def test_xfeat_falls_back_to_looks_when_nothing_matches(gallery):
    from kornia.feature import XFeat

    torch.manual_seed(0)
    matcher = xfeat.XFeatMatcher(gallery, tiny_model(), XFeat())
    found = matcher.coarse_poses(torch.ones(3, SIZE, SIZE), lens())
    assert found
    assert all(h.score == 0 for h in found)
