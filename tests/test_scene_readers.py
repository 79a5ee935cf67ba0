"""Every supported layout is recognised and read with the right cameras, names and labels."""

import hashlib
import json
import logging
import math
from pathlib import Path

import captures
import pytest
import torch
from captures import ANGLE, SIZE, frame, orbit, write_transforms

from scene import Capture, InputError, View, read_capture, read_image, read_queries, true_poses
from scene.readers import FORMATS, CaptureFormat


def assert_poses(capture: Capture, expected: list[torch.Tensor]) -> None:
    assert len(capture.views) == len(expected)
    for view, pose in zip(capture.views, expected, strict=True):
        torch.testing.assert_close(view.camera.world_to_camera, pose, rtol=0, atol=1e-12)


def test_mad(tmp_path: Path) -> None:
    capture = read_capture(captures.write_mad(tmp_path / "01Gorilla"))
    assert (capture.name, capture.format) == ("Gorilla", "mad")
    # numbers without leading zeros sort as numbers, whatever the order in the file
    assert [view.name for view in capture.views] == [f"train/good/{i}" for i in range(12)]
    assert_poses(capture, orbit(12))
    camera = capture.views[0].camera
    assert camera.fx == camera.fy == pytest.approx(0.5 * SIZE / math.tan(0.5 * ANGLE))
    assert (camera.cx, camera.cy, camera.width, camera.height) == (16, 16, 32, 32)
    assert capture.background == (1.0, 1.0, 1.0)
    assert capture.points is None


def test_mad_queries(tmp_path: Path) -> None:
    capture = read_capture(captures.write_mad(tmp_path / "01Gorilla"))
    names = ["good/0", "good/1", *(f"Burrs/{i}" for i in range(11))]
    assert [query.name for query in capture.queries] == names
    good, burr = capture.queries[1], capture.queries[12]
    assert (good.label, good.is_anomalous, good.mask_path) == ("good", False, None)
    assert (burr.label, burr.is_anomalous) == ("Burrs", True)
    assert burr.mask_path == tmp_path / "01Gorilla/ground_truth/Burrs/10_mask.png"


def test_true_poses_of_mad(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog")
    poses = true_poses(read_capture(root))
    assert len(poses) == 13
    torch.testing.assert_close(poses["Burrs/3"], orbit(12)[3], rtol=0, atol=1e-12)
    (root / "test_poses.json").unlink()
    assert true_poses(read_capture(root)) == {}


def test_test_frames_are_never_trained_on(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog")
    poses = orbit(12)
    frames = [frame(f"train/good/{i}.png", poses[i]) for i in range(3)]
    frames += [frame("./test/good/0.png", poses[0]), frame("val/7.png", poses[1])]
    write_transforms(root / "transforms.json", frames)
    assert [view.name for view in read_capture(root).views] == [f"train/good/{i}" for i in range(3)]


def test_mip(tmp_path: Path) -> None:
    capture = read_capture(captures.write_mip(tmp_path / "toy"))
    assert [view.name for view in capture.views] == [f"train/{i}" for i in range(5)]
    labels = [(query.name, query.is_anomalous) for query in capture.queries]
    assert labels == [
        ("good_bright/0", False), ("good_dim/0", False), ("Stains/0", True), ("Stains/1", True),
    ]  # fmt: skip
    assert capture.queries[2].mask_path == tmp_path / "toy/ground_truth/Stains/0.png"


def test_rad(tmp_path: Path) -> None:
    captures.write_rad(tmp_path / "01gorilla")
    capture = read_capture(tmp_path / "Gorilla")
    assert capture.name == "gorilla"
    assert [query.label for query in capture.queries] == ["good", "burrs", "missing", "missing"]
    assert all(query.mask_path for query in capture.queries[1:])


@pytest.mark.parametrize("wanted", ["01Gorilla", "Gorilla", "gorilla", "GORILLA", "01gorilla"])
def test_class_is_found_by_its_bare_name(tmp_path: Path, wanted: str) -> None:
    captures.write_mad(tmp_path / "01Gorilla", views=3, labels={"good": 1})
    captures.write_mad(tmp_path / "02Unicorn", views=2, labels={"good": 1})
    capture = read_capture(tmp_path / wanted)
    assert (capture.root.name, len(capture.views)) == ("01Gorilla", 3)


@pytest.mark.parametrize("wanted", ["Phoenix", "Pheonix", "13Pheonix", "13Phoenix", "phoenix"])
def test_phoenix_is_found_in_both_spellings(tmp_path: Path, wanted: str) -> None:
    captures.write_mad(tmp_path / "13Pheonix", views=2, labels={"good": 1})
    assert read_capture(tmp_path / wanted).name == "Phoenix"


def test_names_that_begin_with_numbers_are_kept(tmp_path: Path) -> None:
    for name in ("3dprint", "2024_parts", "brick_dog"):
        root = captures.write_mad(tmp_path / name, views=2, labels={"good": 1})
        assert read_capture(root).name == name


def test_blender(tmp_path: Path) -> None:
    capture = read_capture(captures.write_blender(tmp_path / "lego"))
    assert (capture.name, capture.format) == ("lego", "blender")
    # validation frames are not merged, depth and normal maps are no queries
    assert [view.name for view in capture.views] == [f"train/r_{i}" for i in range(4)]
    assert [query.name for query in capture.queries] == ["r_0", "r_1", "r_2"]
    assert all(q.label is None and q.is_anomalous is None for q in capture.queries)
    assert_poses(capture, orbit(7)[:4])
    assert capture.background == (1.0, 1.0, 1.0)
    image = read_image(capture.views[0].image_path, (SIZE, SIZE), capture.background)
    assert image[:, 0, 0].tolist() == [1, 1, 1]


def test_true_poses_of_blender(tmp_path: Path) -> None:
    poses = true_poses(read_capture(captures.write_blender(tmp_path / "lego")))
    assert sorted(poses) == ["r_0", "r_1", "r_2"]
    torch.testing.assert_close(poses["r_1"], orbit(7)[5], rtol=0, atol=1e-12)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["sparse/0", "sparse"])
def test_colmap(tmp_path: Path, binary: bool, model: str) -> None:
    capture = read_capture(captures.write_colmap(tmp_path / "cup", model=model, binary=binary))
    assert capture.format == "colmap"
    assert [view.name for view in capture.views] == [f"images/{i}" for i in range(6)]
    assert_poses(capture, orbit(6))
    camera = capture.views[0].camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (44.0, 45.0, 16.0, 15.5)
    assert capture.points is not None
    torch.testing.assert_close(capture.points.xyz[1], torch.tensor([0.8, 0, 0]))
    torch.testing.assert_close(capture.points.rgb[2], torch.tensor([0, 0, 0.2]))
    assert capture.queries == ()
    assert true_poses(capture) == {}


def test_colmap_takes_the_largest_model_and_says_how_much_it_registered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = captures.write_colmap(tmp_path / "cup", views=6, model="sparse/1")
    captures.write_colmap(root, views=2, model="sparse/0")
    captures.save_image(root / "images/6.png", captures.ball_image(orbit(1)[0]))
    captures.save_image(root / "test/7.png", captures.ball_image(orbit(1)[0]))
    with caplog.at_level(logging.INFO, logger="scene"):
        capture = read_capture(root)
    assert len(capture.views) == 6
    assert [(query.name, query.label) for query in capture.queries] == [("7", None)]
    assert "registered 6 of 7 images" in caplog.text


@pytest.mark.parametrize(
    ("lens", "expected"),
    [
        ((0, "SIMPLE_PINHOLE", (44.0, 16.0, 15.0)), (44, 44, 16, 15)),
        ((2, "SIMPLE_RADIAL", (44.0, 16.0, 15.0, 0.0)), (44, 44, 16, 15)),
        ((4, "OPENCV", (44.0, 45.0, 16.0, 15.0, 0.0, 0.0, 0.0, 0.0)), (44, 45, 16, 15)),
    ],
)
def test_colmap_lenses_without_distortion(
    tmp_path: Path, lens: tuple, expected: tuple[float, ...]
) -> None:
    for binary in (True, False):
        root = captures.write_colmap(tmp_path / str(binary), lens=lens, binary=binary)
        camera = read_capture(root).views[0].camera
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == expected


def test_nerfstudio_intrinsics_of_the_file_and_of_a_frame(tmp_path: Path) -> None:
    poses = orbit(2)
    for i, pose in enumerate(poses):
        captures.save_image(tmp_path / f"images/{i}.png", captures.ball_image(pose))
    lens = {"fl_x": 80.0, "fl_y": 82.0, "cx": 30.0, "cy": 33.0, "w": 64, "h": 64}
    frames = [frame("images/0.png", poses[0]), frame("images/1.png", poses[1], fl_x=100.0)]
    write_transforms(tmp_path / "transforms.json", frames, **lens, camera_model="OPENCV", k1=0.0)
    first, second = (view.camera for view in read_capture(tmp_path).views)
    # measured at 64 x 64, stored at 32 x 32
    assert (first.fx, first.fy, first.cx, first.cy) == (40, 41, 15, 16.5)
    assert second.fx == 50


def test_resolution_shrinks_but_never_enlarges(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog", views=2, labels={"good": 1})
    small, large = read_capture(root, resolution=16), read_capture(root, resolution=400)
    assert (small.views[0].camera.width, small.views[0].camera.fx) == (
        16,
        pytest.approx(21.916, abs=1e-3),
    )
    assert large.views[0].camera.width == SIZE
    with pytest.raises(ValueError, match="positive"):
        read_capture(root, resolution=0)


def test_loose_queries(tmp_path: Path) -> None:
    image = captures.ball_image(orbit(1)[0])
    for name in ("10.png", "2.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / "shift").mkdir(exist_ok=True)
        image.save(tmp_path / "shift" / name, format="png")
    captures.save_image(tmp_path / "shift/monday/2.png", image)
    queries = read_queries(tmp_path / "shift")
    assert [query.name for query in queries] == ["2", "10", "monday/2"]
    assert all(query.label is None for query in queries)
    assert [query.name for query in read_queries(tmp_path / "shift/10.png")] == ["10"]


def test_queries_of_a_capture_and_of_its_test_folder(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog", labels={"Burrs": 1, "good": 1})
    assert read_queries(root) == read_capture(root).queries
    assert read_queries(root / "test") == read_capture(root).queries


def test_nothing_in_the_input_folder_changes(tmp_path: Path) -> None:
    def digest() -> dict[str, str]:
        files = sorted(path for path in tmp_path.rglob("*"))
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in files
        }

    captures.write_mad(tmp_path / "01Gorilla")
    captures.write_mip(tmp_path / "mip")
    captures.write_blender(tmp_path / "lego")
    captures.write_colmap(tmp_path / "cup")
    before = digest()
    for name in ("Gorilla", "mip", "lego", "cup"):
        true_poses(read_capture(tmp_path / name, resolution=16))
    assert digest() == before


def test_one_entry_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(root: Path) -> tuple[tuple[View, ...], None]:
        paths = sorted(root.glob("*.png"))
        return tuple(
            View(path.stem, path, captures.camera_at(pose))
            for path, pose in zip(paths, orbit(len(paths)), strict=True)
        ), None

    turntable = CaptureFormat(
        "turntable", "turn.txt", lambda root: (root / "turn.txt").is_file(), read,
        lambda root: {"7": orbit(3)[2], "8": orbit(3)[1]},
    )  # fmt: skip
    for i, pose in enumerate(orbit(3)):
        captures.save_image(tmp_path / f"cup/{i}.png", captures.ball_image(pose))
    captures.save_image(tmp_path / "cup/test/7.png", captures.ball_image(orbit(3)[2]))
    (tmp_path / "cup/turn.txt").touch()
    with pytest.raises(InputError, match="is not a capture"):
        read_capture(tmp_path / "cup")
    monkeypatch.setitem(FORMATS, "turntable", turntable)
    capture = read_capture(tmp_path / "cup", resolution=16)
    assert (capture.format, len(capture.views), capture.views[0].camera.width) == (
        "turntable", 3, 16,
    )  # fmt: skip
    assert_poses(capture, orbit(3))
    assert list(true_poses(capture)) == ["7"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"neither .* nor turn\.txt \(turntable\) lies there"):
        read_capture(tmp_path / "empty")
    with pytest.raises(InputError, match=r"holds 1 captures: name one of them \(cup\)"):
        read_capture(tmp_path)


def test_every_format_is_in_the_docs_in_the_order_of_recognition() -> None:
    page = (Path(__file__).parent.parent / "docs" / "formats.md").read_text().replace("`", "")
    rows = [page.index(f"| {form.marker} | {form.title}") for form in FORMATS.values()]
    assert rows == sorted(rows)


def test_bundled_class() -> None:
    root = Path(__file__).parent.parent / "data" / "brick_dog"
    capture = read_capture(root)
    assert (len(capture.views), len(capture.queries), len(true_poses(capture))) == (210, 100, 100)
    assert capture.background == (1.0, 1.0, 1.0)
    frames = json.loads((root / "transforms.json").read_text())["frames"]
    by_name = {entry["file_path"]: entry["transform_matrix"] for entry in frames}
    for view in capture.views[::50]:
        matrix = by_name[f"./{view.name}.png"]
        torch.testing.assert_close(
            view.camera.centre, torch.tensor(matrix, dtype=torch.float64)[:3, 3], rtol=0, atol=1e-9
        )
