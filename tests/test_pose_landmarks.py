"""Landmarks: textured objects are found before anything, others as they were."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pose_scenes import WHITE, lens, visible
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from pose_estimation import (
    Gallery,
    build_gallery,
    load_gallery,
    rotation_error,
    save_gallery,
    select_matcher,
    translation_error,
)
from pose_estimation.landmarks import make_landmarks
from pose_estimation.matchers.landmarks import SURE, LandmarkMatcher
from pose_estimation.viewpoints import fibonacci_sphere, look_at
from scene import Camera, Gaussians, InputError

SIZE, VIEWS = 320, 60


def ellipsoid(textured: bool) -> ObjectRenderer:
    """A smooth body, of one grey or with random patches."""
    directions = fibonacci_sphere(8000).float()
    generator = torch.Generator().manual_seed(3)
    colours = torch.full((8000, 1, 3), -0.5)
    if textured:
        patches = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=1)
        shades = 1.2 * torch.randn(300, 1, 3, generator=generator)
        colours = shades[(directions @ patches.T).argmax(dim=1)]
    gaussians = Gaussians(
        means=directions * torch.tensor([0.9, 0.7, 0.6]),
        log_scales=torch.full((8000, 3), math.log(0.02)),
        quaternions=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(8000, 1),
        opacity_logits=torch.full((8000,), 4.0),
        sh=colours,
    )
    return ObjectRenderer(gaussians, WHITE)


def camera_from(direction: Tensor) -> Camera:
    """A camera that looks at the object from there."""
    return lens(look_at(4.0 * direction, torch.zeros(3, dtype=torch.float64)), SIZE)


def shown(model: ObjectRenderer, camera: Camera) -> Tensor:
    """What the camera sees, [3, H, W]."""
    with torch.no_grad():
        return model(camera).image.clamp(0, 1)


def gallery_of(model: ObjectRenderer) -> Gallery:
    cameras = [camera_from(direction) for direction in fibonacci_sphere(VIEWS)]
    images = [shown(model, camera) for camera in cameras]
    shapes = [visible(image) for image in images]
    return build_gallery(model, cameras, images, shapes, rendered_directions=0)


QUERIES = [camera_from(direction) for direction in fibonacci_sphere(7)]


@pytest.fixture(scope="module")
def textured() -> ObjectRenderer:
    return ellipsoid(True)


@pytest.fixture(scope="module")
def gallery(textured: ObjectRenderer) -> Gallery:
    return gallery_of(textured)


def before_clutter(model: ObjectRenderer, camera: Camera) -> Tensor:
    """The object before patches of all colours, [3, H, W]."""
    generator = torch.Generator().manual_seed(8)
    clutter = torch.nn.functional.interpolate(
        torch.rand(1, 3, 16, 16, generator=generator), size=(SIZE, SIZE), mode="nearest"
    )[0]
    with torch.no_grad():
        seen = model(camera)
    return (seen.image + (1 - seen.alpha) * (clutter - WHITE[:, None, None])).clamp(0, 1)


@pytest.mark.parametrize("show", [shown, before_clutter])
def test_a_textured_object_is_found_whatever_stands_behind_it(gallery, textured, show):
    matcher = LandmarkMatcher(gallery)
    for camera in QUERIES:
        best = matcher.coarse_poses(show(textured, camera), camera)[0]
        assert best.score >= 15
        assert math.degrees(rotation_error(best.world_to_camera, camera.world_to_camera)) < 5
        assert translation_error(best.world_to_camera, camera.world_to_camera) < 0.3


def test_landmarks_lie_on_the_surface(gallery):
    assert gallery.landmark_points is not None
    on_sphere = gallery.landmark_points / torch.tensor([0.9, 0.7, 0.6])
    assert len(on_sphere) > 500
    assert (on_sphere.norm(dim=1) - 1).abs().median() < 0.05


def test_landmarks_and_poses_do_not_depend_on_the_number_of_threads(gallery, textured):
    cameras = [gallery.camera(view) for view in range(8)]
    images = [gallery.image(view) for view in range(8)]
    one, two = (make_landmarks(replace(textured, threads=n), cameras, images) for n in (1, 2))
    assert all(torch.equal(*parts) for parts in zip(one, two, strict=True))
    image = before_clutter(textured, QUERIES[2])
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(LandmarkMatcher(gallery).coarse_poses(image, QUERIES[2]))
    torch.set_num_threads(1)
    assert len(found[0]) == len(found[1]) > 0
    for first, second in zip(*found, strict=True):
        assert first.score == second.score
        assert torch.equal(first.world_to_camera, second.world_to_camera)


def test_auto_asks_the_silhouettes_only_where_landmarks_are_not_sure(gallery, textured):
    selection = select_matcher("auto", gallery, textured)
    assert selection.matcher.name == "landmarks and silhouette"
    by_landmarks = LandmarkMatcher(gallery)
    by_silhouettes = select_matcher("silhouette", gallery, textured).matcher
    image, camera = shown(textured, QUERIES[0]), QUERIES[0]
    sure = selection.matcher.coarse_poses(image, camera)
    assert [h.score for h in sure] == [h.score for h in by_landmarks.coarse_poses(image, camera)]
    plain = shown(ellipsoid(False), camera)
    assert by_landmarks.coarse_poses(plain, camera) == []
    unsure = selection.matcher.coarse_poses(plain, camera)
    assert [h.score for h in unsure] == [
        h.score for h in by_silhouettes.coarse_poses(plain, camera)
    ]


def test_an_object_without_texture_has_no_landmarks_and_auto_falls_back():
    model = ellipsoid(False)
    bare = gallery_of(model)
    selection = select_matcher("auto", bare, model)
    assert selection.matcher.name == "silhouette"
    assert "no landmarks" in selection.reason
    with pytest.raises(InputError, match="too little texture"):
        select_matcher("landmarks", bare, model)


def test_a_gallery_from_before_there_were_landmarks_opens(
    gallery: Gallery, textured: ObjectRenderer, tmp_path: Path
):
    path = tmp_path / "gallery.npz"
    save_gallery(gallery, path)
    assert torch.equal(load_gallery(path).landmark_points, gallery.landmark_points)
    with np.load(path) as archive:
        old = {name: archive[name] for name in archive if not name.startswith("landmark")}
    np.savez(path, **old)
    opened = load_gallery(path)
    assert opened.landmark_points is None
    assert select_matcher("auto", opened, textured).matcher.name == "silhouette"


def test_noise_gives_no_sure_pose(gallery):
    noise = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    found = LandmarkMatcher(gallery).coarse_poses(noise, QUERIES[0])
    assert all(hypothesis.score < SURE for hypothesis in found)
