"""prepare.py's stages on scenes whose right answers are known."""

import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from preparation.backdrop import foreground_masks, still_background
from preparation.board import PAGE, corner_positions, draw_page, find_board, write_board
from preparation.coverage import coverage
from preparation.geometry import Similarity, ground_plane, similarity_between, triangulate, upright
from preparation.isolate import consistent, isolate, sharpened, within_boxes, without_holes
from preparation.photographs import BLURRED, import_photographs, sharpness
from preparation.sfm import Lens
from preparation.stages import Stages
from preparation.undistort import pinhole_of
from prepare import PrepareConfig, prepare
from scene import Camera, Gaussians, InputError, common_point

SIZE = 400  # pixels


def looking_at(centre: list[float], target: list[float] | None = None) -> Camera:
    """A camera at a place, z of the world upwards in its image."""
    place = np.array(centre, float)
    forward = np.array(target or [0.0, 0.0, 0.0]) - place
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ place
    return Camera(torch.from_numpy(pose), 500.0, 500.0, SIZE / 2, SIZE / 2, SIZE, SIZE)


def ring(count: int, elevation: float, distance: float = 4.0) -> list[Camera]:
    """Cameras around the origin."""
    e = math.radians(elevation)
    return [
        looking_at([distance * math.cos(e) * math.cos(a), distance * math.cos(e) * math.sin(a),
                    distance * math.sin(e)])
        for a in np.linspace(0, 2 * math.pi, count, endpoint=False)
    ]  # fmt: skip


def noise_image(
    seed: int = 0, width: int = 320, height: int = 240, ground: int = 128
) -> np.ndarray:
    """A sharp image of blobs."""
    random = np.random.default_rng(seed)
    image = np.full((height, width, 3), ground, np.uint8)
    for _ in range(150):
        at = (int(random.integers(width)), int(random.integers(height)))
        cv2.circle(
            image, at, int(random.integers(3, 20)), random.integers(256, size=3).tolist(), -1
        )
    return image


def save(folder: Path, name: str, image: np.ndarray, exif: Image.Exif | None = None) -> None:
    """Writes a photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    extra = {} if exif is None else {"exif": exif}
    Image.fromarray(image).save(folder / name, **extra)


def test_a_similarity_is_found_from_points_of_which_some_are_wrong() -> None:
    random = np.random.default_rng(0)
    old = random.normal(size=(30, 3))
    turn = upright(np.array([0.6, 0.0, 0.8]))
    true = Similarity(2.5, turn, np.array([1.0, -2.0, 3.0]))
    new = true.points(old)
    new[:4] += 5.0
    found, errors = similarity_between(old, new)
    assert found.scale == pytest.approx(2.5)
    assert np.allclose(found.rotation, turn)
    assert np.allclose(errors[4:], 0, atol=1e-9)
    assert errors[:4].min() > 1.0


def test_a_pose_in_another_frame_shows_every_point_where_it_was() -> None:
    camera = looking_at([3.0, 1.0, 2.0])
    frame = Similarity(10.0, upright(np.array([0.0, 0.6, 0.8])), np.array([5.0, 6.0, 7.0]))
    moved = camera.at(torch.from_numpy(frame.pose(camera.world_to_camera.numpy())))
    points = np.random.default_rng(1).normal(size=(20, 3))
    before = camera.project(torch.from_numpy(points))
    after = moved.project(torch.from_numpy(frame.points(points)))
    assert torch.allclose(before[0], after[0])
    assert torch.allclose(before[1], after[1])
    assert torch.allclose(10 * before[2], after[2])


def test_triangulation_leaves_out_a_wrong_view_and_needs_two_that_agree() -> None:
    point = np.array([0.2, -0.3, 0.1])
    cameras = ring(8, 30)
    pixels = np.array([
        [float(v[0]) for v in camera.project(torch.from_numpy(point[None]))[:2]]
        for camera in cameras
    ])  # fmt: skip
    pixels[3] += 60
    found = triangulate(cameras, pixels)
    assert found is not None
    assert np.allclose(found, point, atol=1e-6)
    assert triangulate(cameras[:1], pixels[:1]) is None


def test_the_ground_is_the_plane_beneath_which_nothing_lies() -> None:
    random = np.random.default_rng(0)
    table = np.column_stack([random.uniform(-2, 2, (400, 2)), np.full(400, -0.5)])
    lid = np.column_stack([random.uniform(-0.6, 0.6, (500, 2)), np.full(500, 0.4)])
    points = np.concatenate([table, lid]) + random.normal(scale=0.002, size=(900, 3))
    centres = np.stack([camera.centre.numpy() for camera in ring(12, 35)])
    found = ground_plane(points, centres, np.array([0.1, 0, 1.0]), np.zeros(3), 0.01)
    assert found is not None
    assert found.normal @ [0, 0, 1] == pytest.approx(1, abs=1e-4)
    assert found.offset == pytest.approx(-0.5, abs=2e-3)
    assert ground_plane(random.normal(size=(300, 3)), centres, np.array([0, 0, 1.0]),
                        np.zeros(3), 0.005) is None  # fmt: skip


def test_the_printed_board_gives_millimetres_and_the_ground(tmp_path: Path) -> None:
    write_board(tmp_path / "board.pdf")
    box = (tmp_path / "board.pdf").read_bytes().split(b"MediaBox")[1].split(b"]")[0]
    sides = [float(v) / 72 * 25.4 for v in box.split(b"[")[1].split()[2:]]
    assert sides == pytest.approx(PAGE, abs=0.01)
    page, unit = draw_page(), 0.02  # world units of a millimetre
    cameras = ring(5, 50, 9.0)
    images = [_photograph(page, camera, unit) for camera in cameras]
    found = find_board(images, cameras)
    assert found is not None
    assert found.corners == len(corner_positions())
    assert found.into_millimetres.scale == pytest.approx(1 / unit, rel=2e-3)
    up = found.into_millimetres.rotation @ np.array([0.0, 0.0, 1.0])
    assert up @ [0, 0, 1] == pytest.approx(1, abs=1e-3)
    assert find_board([np.zeros_like(image) for image in images], cameras) is None


def _photograph(page: np.ndarray, camera: Camera, unit: float) -> np.ndarray:
    """The page, lying in the plane z = 0 around the origin."""
    height, width = page.shape
    side = 10 / unit  # pixels of the page per world unit
    onto_plane = np.array([[1 / side, 0, -width / 2 / side], [0, -1 / side, height / 2 / side],
                           [0, 0, 1]])  # fmt: skip
    pose = camera.world_to_camera.numpy()
    homography = camera.intrinsics.numpy() @ pose[:3, [0, 1, 3]] @ onto_plane
    wide = cv2.GaussianBlur(page, (0, 0), 4)
    return cv2.warpPerspective(wide, homography, (SIZE, SIZE), borderValue=128)


def test_a_distorted_photograph_becomes_a_pinhole_that_shows_all_of_it() -> None:
    lens = Lens(320, 240, 300.0, 300.0, 158.0, 121.0, (-0.2, 0.03, 0.001, -0.002))
    pinhole = pinhole_of(lens)
    straight = np.array([[0.1, -0.2, 1.0], [-0.4, 0.3, 1.0], [0.45, 0.33, 1.0]])
    matrix = np.array([[300.0, 0, 158.0], [0, 300.0, 121.0], [0, 0, 1]])
    seen = cv2.projectPoints(straight, np.zeros(3), np.zeros(3), matrix,
                             np.array(lens.distortion))[0][:, 0]  # fmt: skip
    for ray, place in zip(straight, seen, strict=True):
        column = pinhole.fx * ray[0] + pinhole.cx - 0.5
        row = pinhole.fy * ray[1] + pinhole.cy - 0.5
        at = (round(row), round(column))
        moved = (column - at[1], row - at[0])
        assert pinhole.columns[at] + 0.5 == pytest.approx(place[0], abs=1 + abs(moved[0]))
        assert pinhole.rows[at] + 0.5 == pytest.approx(place[1], abs=1 + abs(moved[1]))
    corners = np.full((240, 320), 0, np.uint8)
    corners[:4, :4] = corners[-4:, -4:] = corners[:4, -4:] = corners[-4:, :4] = 255
    assert cv2.connectedComponents((pinhole.image(corners, True) > 60).astype(np.uint8))[0] == 5
    assert pinhole.covered.mean() > 0.8


def cloud(centres: np.ndarray, size: float = 0.03) -> Gaussians:
    """Opaque small Gaussians."""
    n = len(centres)
    quaternions = torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1)
    return Gaussians(torch.from_numpy(centres).float(), torch.full((n, 3), math.log(size)),
                     quaternions, torch.full((n,), 3.0), torch.zeros(n, 1, 3))  # fmt: skip


def test_the_object_is_what_stands_on_the_ground_in_the_middle() -> None:
    random = np.random.default_rng(0)
    thing = random.uniform(-0.4, 0.4, (800, 3)) + np.array([0, 0, 0.05])
    table = np.column_stack([random.uniform(-1.3, 1.3, (800, 2)), np.full(800, -0.4)])
    clutter = random.uniform(-0.1, 0.1, (100, 3)) + np.array([0.95, 0.3, -0.25])
    floaters = random.uniform(-3, 3, (60, 3)) + np.array([0, 0, 3.2])
    points = np.concatenate([thing, table, clutter, floaters])
    centres = np.stack([camera.centre.numpy() for camera in ring(12, 35)])
    plane = ground_plane(points, centres, np.array([0, 0, 1.0]), np.zeros(3), 0.01)
    chosen = isolate(cloud(points), np.zeros(3), 1.4, plane)
    assert chosen[:800].mean() > 0.97
    assert not chosen[800:].any()


def test_two_objects_of_a_size_are_refused() -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([
        random.uniform(-0.25, 0.25, (500, 3)) + np.array([x, 0, 0]) for x in (-0.5, 0.5)
    ])  # fmt: skip
    with pytest.raises(InputError, match="Two objects"):
        isolate(cloud(points), np.zeros(3), 1.4, None)


def test_boxes_keep_and_cut() -> None:
    points = np.array([[0.0, 0, 0], [1, 1, 1], [3, 0, 0]])
    assert within_boxes(points, (-1, -1, -1, 2, 2, 2), None).tolist() == [True, True, False]
    kept = within_boxes(points, (-1, -1, -1, 2, 2, 2), (0.5, 0.5, 0.5, 5, 5, 5))
    assert kept.tolist() == [True, False, False]


def test_a_rough_mask_moves_to_the_edge_of_the_colours() -> None:
    photograph = np.full((300, 400, 3), (60, 120, 60), np.uint8)
    photograph += np.random.default_rng(0).integers(0, 20, photograph.shape, np.uint8)
    true = np.zeros((300, 400), np.uint8)
    cv2.circle(true, (200, 150), 80, 1, -1)
    photograph[true > 0] = (200, 60, 50)
    rough = np.zeros((150, 200), np.float32)
    cv2.circle(rough, (101, 75), 42, 1.0, -1)
    found = sharpened(photograph, rough) > 127
    assert (found & (true > 0)).sum() / (found | (true > 0)).sum() > 0.97


def test_what_other_views_see_through_leaves_a_mask() -> None:
    cameras = ring(16, 25)
    masks = []
    for _ in cameras:
        mask = np.zeros((SIZE, SIZE), np.uint8)
        cv2.circle(mask, (SIZE // 2, SIZE // 2), 60, 255, -1)
        masks.append(mask)
    masks[5][30:60, 30:60] = 255
    allowed = consistent(masks, cameras)
    assert not allowed[5][30:60, 30:60].any()
    disc = masks[0] > 0
    assert (allowed[5] & disc).sum() > 0.97 * disc.sum()


def test_holes_are_filled_unless_the_hull_has_them() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[5:55, 5:55] = 255
    allowed = mask > 0
    mask[10:15, 10:15] = mask[30:40, 30:40] = 0
    allowed[33:36, 33:36] = False
    filled = without_holes(mask, allowed)
    assert (filled[10:15, 10:15] == 255).all()
    assert (filled[30:40, 30:40] == 0).all()
    assert (filled[:5] == 0).all()


def test_gaps_between_photographs_are_named() -> None:
    centres = np.stack([camera.centre.numpy() for camera in ring(24, 30)])
    names = [f"p{n}" for n in range(24)]
    full = coverage(names, centres, np.zeros(3))
    assert full.gaps == ("nothing from below 30 degrees of elevation",
                         "nothing from above 30 degrees of elevation")  # fmt: skip
    without = coverage(names[:10] + names[13:], np.delete(centres, range(10, 13), 0), np.zeros(3))
    assert without.gaps[0] == (
        "60 degrees around the object without a photograph, between p9 and p13"
    )
    with pytest.raises(InputError, match="one side"):
        coverage(names[:3], centres[:3], np.zeros(3))


def test_the_focus_is_what_all_cameras_look_at() -> None:
    cameras = [looking_at([4 * math.cos(a), 4 * math.sin(a), 2.0], [0.3, -0.2, 0.5])
               for a in np.linspace(0, 5, 9)]  # fmt: skip
    point = common_point(cameras)
    assert point is not None
    assert point.tolist() == pytest.approx([0.3, -0.2, 0.5], abs=1e-6)


def test_what_turns_before_a_fixed_camera_is_told_from_what_stands_still() -> None:
    room, images, masks = noise_image(1), [], []
    for number in range(16):
        image, mask = room.copy(), np.zeros(room.shape[:2], np.uint8)
        angle = 2 * math.pi * number / 16
        centre = (160, 130)
        axes = (30 + round(30 * abs(math.cos(angle))), 70)
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
        patch = np.roll(noise_image(2, ground=60), 20 * number, axis=1)
        patch = np.uint8(patch * (0.75 + 0.25 * math.cos(angle)))  # the light stands still
        image[mask > 0] = patch[mask > 0]
        images.append(image)
        masks.append(mask)
    background = still_background(images)
    assert background is not None
    found = foreground_masks(images, background)
    agreement = [
        ((mask & true) > 0).sum() / ((mask | true) > 0).sum()
        for mask, true in zip(found, masks, strict=True)
    ]
    assert np.median(agreement) > 0.93
    assert min(agreement) > 0.5
    moving = [np.roll(room, 15 * n, axis=1) for n in range(16)]
    assert still_background(moving) is None


def test_a_blurred_image_is_told_from_a_sharp_one() -> None:
    image = noise_image()
    smeared = cv2.blur(image, (31, 1))
    assert sharpness(image) > 0.3
    assert sharpness(smeared) < BLURRED


def test_portrait_photographs_are_turned_upright_and_keep_their_focal_length(
    tmp_path: Path,
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif.get_ifd(0x8769)[0xA405] = 26  # mm on film
    image = noise_image()
    for number in range(8):
        save(tmp_path / "in", f"{number}.jpg", image, exif)
    found = import_photographs(tmp_path / "in", tmp_path / "work", "one", 10)
    assert [(one.width, one.height) for one in found] == [(240, 320)] * 8
    assert found[0].focal == pytest.approx(26 / 43.27 * 400, rel=1e-3)
    copy = np.asarray(Image.open(tmp_path / "work" / "photographs" / found[0].file))
    turned = np.rot90(image, -1)
    assert np.abs(copy.astype(int) - turned).mean() < 12


def _refused(tmp_path: Path, message: str, **settings: object) -> None:
    with pytest.raises(InputError, match=message):
        import_photographs(tmp_path, tmp_path.parent / "work", **(  # type: ignore[arg-type]
            {"cameras": "one", "frames": 10} | settings))  # fmt: skip


def test_three_photographs_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "in", f"{number}.png", noise_image())
    _refused(tmp_path / "in", "gives 3 photographs, and at least 8 are needed")


def test_blurred_photographs_are_refused(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "in", f"{number}.png", cv2.GaussianBlur(noise_image(number), (0, 0), 12))
    _refused(tmp_path / "in", "is blurred")


def test_a_blurred_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 240))
    if not video.isOpened():
        pytest.skip("this OpenCV writes no MP4")
    blurred = cv2.GaussianBlur(noise_image(), (0, 0), 12)
    for step in range(40):
        video.write(np.roll(blurred, step, axis=1))
    video.release()
    _refused(path, "is blurred")


def test_photographs_of_two_cameras_are_refused_unless_each_has_its_folder(tmp_path: Path) -> None:
    for number in range(8):
        width = 320 if number < 4 else 300
        folder = tmp_path / "in" / ("a" if number < 4 else "b")
        save(folder, f"{number}.png", noise_image(number, width))
    _refused(tmp_path / "in", "another camera.*--cameras per-folder")
    found = import_photographs(tmp_path / "in", tmp_path / "work", "per-folder", 10)
    assert {one.camera for one in found} == {"a-wide", "b-wide"}


def test_heic_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    tmp_path.joinpath("1.HEIC").write_bytes(b"ftypheic")
    _refused(tmp_path, "1 HEIC photographs.*pillow-heif.*JPEG")


def test_without_pycolmap_the_command_to_install_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    save(tmp_path / "in", "0.png", noise_image())
    with pytest.raises(InputError, match=r"pip install 'pycolmap>=4\.1\.1,<5'"):
        prepare(PrepareConfig(tmp_path / "in", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_inside_the_photographs_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="needs pycolmap (the extra `photos`)")
    save(tmp_path / "in", "0.png", noise_image())
    with pytest.raises(InputError, match="never written into"):
        prepare(PrepareConfig(tmp_path / "in", tmp_path / "in" / "out"))


def test_photographs_that_share_nothing_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="needs pycolmap (the extra `photos`)")
    for number in range(8):
        save(tmp_path / "in", f"{number}.png", noise_image(number, 160, 120))
    root = Path(__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "prepare.py", str(tmp_path / "in"), "-o", str(tmp_path / "out")],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "overlap enough to be joined" in ran.stderr


def test_a_stage_is_done_once_for_the_same_settings_of_it_and_of_all_before(
    tmp_path: Path,
) -> None:
    calls: list[str] = []

    def run(first: int, second: int) -> list[int]:
        stages = Stages(tmp_path)

        def work(name: str, value: int) -> dict[str, int]:
            calls.append(name)
            return {"value": value}

        return [
            stages.run("a", first, lambda: work("a", first))["value"],
            stages.run("b", second, lambda: work("b", second))["value"],
        ]

    assert run(1, 2) == [1, 2]
    assert run(1, 2) == [1, 2]
    assert calls == ["a", "b"]
    assert run(1, 3) == [1, 3]
    assert calls == ["a", "b", "b"]
    assert run(5, 3) == [5, 3]
    assert calls == ["a", "b", "b", "a", "b"]
