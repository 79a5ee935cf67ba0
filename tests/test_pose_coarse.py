"""The gallery and the coarse stage by silhouettes on a tiny object."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pose_scenes import lens, orbit, picture, tiny_model, tiny_object, visible

from pose_estimation import (
    Gallery,
    build_gallery,
    load_gallery,
    rotation_error,
    save_gallery,
    translation_error,
)
from pose_estimation.hypotheses import facing, keep_distinct
from pose_estimation.matchers.silhouette import SilhouetteMatcher
from pose_estimation.thumbnails import ANGLES, outline, polar_thumbnails
from pose_estimation.viewpoints import fibonacci_sphere, look_at
from scene import InputError
from scene.se3 import twist_exp


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    gaussians, cameras = tiny_object(), orbit(80)
    images = [picture(gaussians, camera) for camera in cameras]
    return build_gallery(
        tiny_model(), cameras, images, [visible(i) for i in images], rendered_directions=0
    )


def turned(camera, roll: float = 0.0, shift=(0.0, 0.0), push: float = 0.0) -> torch.Tensor:
    """The camera rolled by `roll` degrees, with the object shifted and pushed away."""
    twist = torch.zeros(6, dtype=torch.float64)
    twist[2] = math.radians(roll)
    pose = twist_exp(twist) @ camera.world_to_camera
    pose[:3, 3] += torch.tensor([*shift, push], dtype=torch.float64)
    return pose


def test_outline_of_a_rectangle():
    mask = torch.zeros(50, 60, dtype=torch.bool)
    mask[10:20, 20:50] = True
    shape = outline(mask)
    assert shape is not None
    assert shape.centre == pytest.approx((35.0, 15.0))
    assert shape.scale == pytest.approx(math.sqrt((30**2 - 1) / 12 + (10**2 - 1) / 12))
    assert not shape.is_cut
    mask[:20, 20:50] = True
    cut = outline(mask)
    assert cut is not None
    assert cut.cut_direction == (0.0, -1.0)
    assert outline(torch.zeros(50, 60, dtype=torch.bool)) is None


def test_turning_a_picture_shifts_the_angles_of_its_thumbnail():
    generator = torch.Generator().manual_seed(0)
    stack = torch.nn.functional.interpolate(
        torch.rand(1, 4, 8, 8, generator=generator), size=(81, 81), mode="bicubic"
    )[0]
    quarter = stack.rot90(-1, dims=(1, 2))  # x to y: clockwise on the screen
    centre, scale = torch.tensor([[40.5, 40.5]]), torch.tensor([14.0])
    plain, valid = polar_thumbnails(stack, centre, scale)
    rotated, _ = polar_thumbnails(quarter, centre, scale)
    assert valid.all()
    assert torch.allclose(rotated, plain.roll(ANGLES // 4, dims=-1), atol=1e-4)


def test_facing_turns_rays_onto_the_optical_axis():
    rays = torch.tensor([[0.0, 0.0], [0.3, -0.2], [-2.0, 1.0]], dtype=torch.float64)
    turned_rays = (
        facing(rays)[:, :3, :3]
        @ torch.cat([rays, torch.ones(3, 1, dtype=torch.float64)], dim=1)[..., None]
    )
    assert turned_rays[:, :2].abs().max() < 1e-12
    assert (turned_rays[:, 2] > 0).all()


@pytest.mark.parametrize(
    ("roll", "shift", "push"),
    [(0, (0, 0), 0.0), (90, (0, 0), 0.0), (-143, (0.3, -0.2), 0.0), (30, (-0.3, 0.3), 0.9),
     (61, (0, 0), -0.7)],
)  # fmt: skip
def test_rolled_shifted_and_scaled_queries_are_found(gallery, roll, shift, push):
    matcher = SilhouetteMatcher(gallery)
    gaussians = tiny_object()
    for camera in orbit(80)[3::16]:
        true = turned(camera, roll, shift, push)
        best = matcher.coarse_poses(picture(gaussians, lens(true)), lens())[0]
        assert math.degrees(rotation_error(best.world_to_camera, true)) < 8
        assert translation_error(best.world_to_camera, true) < 0.6


def test_views_between_the_gallery_are_found_among_the_first_hypotheses(gallery):
    matcher = SilhouetteMatcher(gallery)
    gaussians = tiny_object()
    origin = torch.zeros(3, dtype=torch.float64)
    errors = []
    for direction in fibonacci_sphere(17):
        true = look_at(4.2 * direction, origin)
        found = matcher.coarse_poses(picture(gaussians, lens(true)), lens())
        errors.append(min(float(rotation_error(h.world_to_camera, true)) for h in found))
    assert math.degrees(max(errors)) < 20
    assert math.degrees(float(np.median(errors))) < 10


def test_a_cut_object_is_found(gallery):
    matcher = SilhouetteMatcher(gallery)
    true = turned(orbit(80)[20], roll=20, shift=(1.15, 0.0))
    image = picture(tiny_object(), lens(true))
    shape = outline(visible(image))
    assert shape is not None
    assert shape.cut_direction == (1.0, 0.0)
    found = matcher.coarse_poses(image, lens())
    assert min(math.degrees(rotation_error(h.world_to_camera, true)) for h in found) < 15


def test_an_empty_image_gives_hypotheses_with_no_score(gallery):
    found = SilhouetteMatcher(gallery).coarse_poses(torch.ones(3, 64, 64), lens())
    assert found
    assert all(hypothesis.score == 0 for hypothesis in found)


def test_noise_gives_hypotheses_and_no_error(gallery):
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert SilhouetteMatcher(gallery).coarse_poses(noise, lens())


def test_hypotheses_are_distinct(gallery):
    found = SilhouetteMatcher(gallery).coarse_poses(picture(tiny_object(), orbit(80)[7]), lens())
    for index, first in enumerate(found):
        for second in found[index + 1 :]:
            angle = rotation_error(first.world_to_camera, second.world_to_camera)
            assert math.degrees(angle) >= 12
            assert first.score >= second.score


def test_keep_distinct_drops_near_duplicates():
    twists = torch.zeros(3, 6, dtype=torch.float64)
    twists[1, 0], twists[2, 0] = 0.01, 1.0
    kept = keep_distinct(twist_exp(twists), torch.tensor([0.5, 0.9, 0.1]), 5, 0.1)
    assert [h.score for h in kept] == pytest.approx([0.9, 0.1])


def test_without_a_background_the_whole_frame_is_compared():
    gaussians, cameras = tiny_object(), orbit(12)
    images = [picture(gaussians, camera) for camera in cameras]
    gallery = build_gallery(tiny_model(), cameras, images, None)
    assert gallery.background is None
    best = SilhouetteMatcher(gallery).coarse_poses(images[5], lens())[0]
    assert math.degrees(rotation_error(best.world_to_camera, cameras[5].world_to_camera)) < 1


def test_rendered_templates_lie_near_the_train_views():
    gaussians = tiny_object()
    cameras = orbit(80)[30:34]
    images = [picture(gaussians, camera) for camera in cameras]
    gallery = build_gallery(
        tiny_model(), cameras, images, [visible(i) for i in images], rendered_directions=40
    )
    rendered = gallery.template_views < 0
    assert 0 < int(rendered.sum()) < 40  # only near the train views
    assert rendered.all()


def test_gallery_is_stored_without_loss(gallery, tmp_path):
    path = tmp_path / "gallery.npz"
    save_gallery(gallery, path)
    loaded = load_gallery(path)
    for name, value in vars(gallery).items():
        assert torch.equal(getattr(loaded, name), value), name
    assert list(tmp_path.iterdir()) == [path]
    expected = picture(tiny_object(), orbit(80)[9])
    assert (loaded.image(9) - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert loaded.camera(9).width == 64


def test_an_array_that_is_not_known_is_not_stored_and_older_files_load(gallery, tmp_path):
    path = tmp_path / "gallery.npz"
    save_gallery(replace(gallery, background=None), path)
    with np.load(path) as archive:
        assert "background" not in archive
        stored = dict(archive)
    assert load_gallery(path).background is None
    np.savez(path, background=np.empty(0, np.float32), **stored)  # as earlier versions say it
    assert load_gallery(path).background is None
    stored["pictures"], stored["picture_ends"] = stored.pop("images"), stored.pop("image_ends")
    np.savez(path, **stored)
    assert torch.equal(load_gallery(path).image(3), gallery.image(3))
    del stored["lenses"]
    np.savez(path, **stored)
    with pytest.raises(InputError, match="damaged"):
        load_gallery(path)


def test_bad_gallery_files_are_refused(gallery, tmp_path):
    with pytest.raises(InputError, match=r"no file .*absent\.npz: run calibrate\.py"):
        load_gallery(tmp_path / "absent.npz")
    path = tmp_path / "gallery.npz"
    save_gallery(gallery, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="damaged"):
        load_gallery(path)
    np.savez(path, version=np.array(99))
    with pytest.raises(InputError, match="version 99"):
        load_gallery(path)


def test_a_gallery_of_empty_views_is_refused():
    camera = lens()
    blank = torch.ones(3, 64, 64)
    with pytest.raises(InputError, match="anything but the background"):
        build_gallery(tiny_model(), [camera], [blank], [visible(blank)], rendered_directions=0)
