"""Whatever is wrong with a capture ends in one sentence: what, where, how to fix it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import captures
import pytest

from scene import InputError, read_capture, read_queries

Change = Callable[[Path], object]


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_entry(row: int, column: int, value: float) -> Change:
    def change(root: Path) -> None:
        def apply(content: dict[str, Any]) -> None:
            content["frames"][0]["transform_matrix"][row][column] = value

        edit(root / "transforms.json", apply)

    return change


def scale_rotation(factor: float) -> Change:
    def change(root: Path) -> None:
        def apply(content: dict[str, Any]) -> None:
            for row in content["frames"][0]["transform_matrix"][:3]:
                row[:3] = [factor * value for value in row[:3]]

        edit(root / "transforms.json", apply)

    return change


def with_first_frame(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda root: edit(root / "transforms.json", lambda c: change(c["frames"][0]))


def with_content(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda root: edit(root / "transforms.json", change)


BROKEN_MAD: dict[str, tuple[Change, str]] = {
    "invalid JSON": (
        lambda root: (root / "transforms.json").write_text('{"frames": [,]}'),
        r"transforms\.json is not valid JSON \(line 1: .*\): fix",
    ),
    "not text": (
        lambda root: (root / "transforms.json").write_bytes(b"\xff\xfe\x80"),
        "not UTF-8 text",
    ),
    "no frames": (with_content(lambda c: c.pop("frames")), "has no list `frames`"),
    "frames empty": (with_content(lambda c: c.update(frames=[])), "has no train views"),
    "frame is a string": (with_content(lambda c: c["frames"].append("x")), "frame 3 is not a JSON"),
    "no file_path": (with_first_frame(lambda f: f.pop("file_path")), "frame 0 has no `file_path`"),
    "no matrix": (
        with_first_frame(lambda f: f.pop("transform_matrix")),
        "frame 0 has no `transform_matrix`: add it",
    ),
    "no focal length": (
        with_content(lambda c: c.pop("camera_angle_x")),
        "neither camera_angle_x nor fl_x is given",
    ),
    "angle in degrees": (with_content(lambda c: c.update(camera_angle_x=40)), "give radians"),
    "angle is text": (with_content(lambda c: c.update(camera_angle_x="wide")), "not a finite"),
    "focal length zero": (with_content(lambda c: c.update(fl_x=0)), "focal length is not positive"),
    "distortion": (with_content(lambda c: c.update(s1=0.1)), r"distortion \(s1\).*image_undistor"),
    "fisheye": (
        with_content(lambda c: c.update(camera_model="OPENCV_FISHEYE")),
        "distortion .*FISHEYE",
    ),
    "fisheye of instant-ngp": (
        with_content(lambda c: c.update(is_fisheye=True)),
        r"distortion \(fisheye\)",
    ),
    "w and h of another aspect": (
        with_content(lambda c: c.update(w=64, h=48)),
        "is 32 x 32 pixels but w x h says 64 x 48",
    ),
    "NaN": (set_entry(0, 3, float("nan")), "train/good/2.png: .* NaN or infinity"),
    "infinity": (set_entry(1, 1, float("inf")), "NaN or infinity"),
    "scale": (scale_rotation(2.0), "not rigid .* without scale or shear"),
    "reflection": (scale_rotation(-1.0), "reflection, not a rotation"),
    "last row": (set_entry(3, 0, 0.5), "not rigid"),
    "matrix too small": (
        with_first_frame(lambda f: f.update(transform_matrix=[[1, 0], [0, 1]])),
        "not a 4 x 4 matrix",
    ),
    "matrix of text": (
        with_first_frame(lambda f: f.update(transform_matrix="identity")),
        "not a 4 x 4 matrix",
    ),
    "frame outside": (
        with_first_frame(lambda f: f.update(file_path="../other/0.png")),
        "leads out of the folder",
    ),
    "duplicate frames": (
        with_content(lambda c: c["frames"].append(c["frames"][0])),
        r"train/good/2\.png is listed twice",
    ),
    "train image is no image": (
        lambda root: (root / "train/good/1.png").write_text("hello"),
        r"train/good/1\.png is not an image",
    ),
    "train image truncated": (
        lambda root: truncate(root / "train/good/1.png"),
        r"train/good/1\.png is truncated or damaged .*: replace",
    ),
    "train image of another size": (
        lambda root: captures.ball_image(captures.orbit(1)[0], 24).save(root / "train/good/1.png"),
        r"train/good/1\.png is 24 x 24 pixels but 0\.png is 32 x 32",
    ),
    "masks without images": (
        lambda root: (root / "test/Burrs/1.png").unlink(),
        r"1 masks have no image \(the first is .*Burrs/1_mask\.png\): add",
    ),
    "mask folder without images": (
        lambda root: shutil.rmtree(root / "test/Burrs"),
        "2 masks have no image",
    ),
    "two images of one name": (
        lambda root: shutil.copy(root / "test/good/0.png", root / "test/good/0.jpg"),
        "two images called good/0",
    ),
}  # fmt: skip


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("case", BROKEN_MAD)
def test_broken_mad(tmp_path: Path, case: str) -> None:
    change, message = BROKEN_MAD[case]
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"good": 1, "Burrs": 2})
    change(root)
    with pytest.raises(InputError, match=message) as caught:
        read_capture(root)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_matrices_with_few_digits_pass_and_become_rigid(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"good": 1})

    def round_off(content: dict[str, Any]) -> None:
        for frame in content["frames"]:
            frame["transform_matrix"] = [
                [round(value, 4) for value in row] for row in frame["transform_matrix"]
            ]

    edit(root / "transforms.json", round_off)
    rotation = read_capture(root).views[0].camera.world_to_camera[:3, :3]
    assert (rotation @ rotation.T - rotation.new_tensor([1, 1, 1]).diag()).abs().max() < 1e-14


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*nowhere: check the path"):
        read_capture(tmp_path / "nowhere" / "Gorilla")


def test_unknown_class_lists_those_found(tmp_path: Path) -> None:
    for name in ("01Gorilla", "13Pheonix"):
        captures.write_mad(tmp_path / name, views=2, labels={"good": 1})
    with pytest.raises(InputError, match=r"no class 'Goat' .*\(Gorilla, Phoenix\)"):
        read_capture(tmp_path / "Goat")


def test_class_that_fits_twice(tmp_path: Path) -> None:
    for name in ("01Gorilla", "02gorilla"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"several classes \(01Gorilla, 02gorilla\)"):
        read_capture(tmp_path / "Gorilla")


def test_folder_of_classes(tmp_path: Path) -> None:
    captures.write_mad(tmp_path / "01Gorilla", views=2, labels={"good": 1})
    with pytest.raises(InputError, match=r"holds 1 captures: name one of them \(01Gorilla\)"):
        read_capture(tmp_path)


def test_folder_that_is_no_capture_and_file_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a capture: neither transforms\.json"):
        read_capture(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file: give the folder"):
        read_capture(tmp_path / "file")


def test_a_bad_query_does_not_stop_the_reader(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"good": 1, "Burrs": 2})
    (root / "test/Burrs/0.png").write_text("not an image")
    assert len(read_capture(root).queries) == 3


def test_queries_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image or folder"):
        read_queries(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no images"):
        read_queries(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="is not an image"):
        read_queries(tmp_path / "notes.txt")


DISTORTED = [
    (8, "SIMPLE_RADIAL_FISHEYE", (44.0, 16.0, 16.0, 0.01)),
    (5, "OPENCV_FISHEYE", (44.0, 44.0, 16.0, 16.0, 0.0, 0.0, 0.0, 0.0)),
]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("lens", DISTORTED)
def test_colmap_distortion_names_the_command_that_removes_it(
    tmp_path: Path, lens: tuple, binary: bool
) -> None:
    root = captures.write_colmap(tmp_path, lens=lens, binary=binary)
    message = f"{lens[1]} has lens distortion.*run `colmap image_undistorter .*sparse/0"
    with pytest.raises(InputError, match=message):
        read_capture(root)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin", "points3D.bin"])
@pytest.mark.parametrize("keep", [5, 30])
def test_truncated_colmap_model(tmp_path: Path, name: str, keep: int) -> None:
    root = captures.write_colmap(tmp_path)
    path = root / "sparse/0" / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"{name} is truncated or not of COLMAP's format"):
        read_capture(root)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cameras.txt", "1 PINHOLE 32\n"),
        ("cameras.txt", "1 PINHOLE 32 32 a b c d\n"),
        ("images.txt", "1 1 0 0 0\n\n"),
        ("images.txt", "1 1 0 0 0 x 0 0 1 0.png\n\n"),
        ("points3D.txt", "1 0 0\n"),
    ],
)
def test_damaged_colmap_text(tmp_path: Path, name: str, content: str) -> None:
    root = captures.write_colmap(tmp_path, binary=False)
    (root / "sparse/0" / name).write_text(content)
    with pytest.raises(InputError, match=f"{name} is truncated or not of COLMAP's format"):
        read_capture(root)


BROKEN_COLMAP: dict[str, tuple[Change, str]] = {
    "missing image": (lambda root: (root / "images/2.png").unlink(), "registers 2.png, but"),
    "missing cameras": (
        lambda root: (root / "sparse/0/cameras.txt").unlink(),
        "no cameras.bin or .txt in",
    ),
    "image of another size": (
        lambda root: (
            captures.ball_image(captures.orbit(1)[0], 24)
            .resize((30, 20))
            .save(root / "images/2.png")
        ),
        "is 30 x 20 pixels but its COLMAP camera 32 x 32",
    ),
    "unknown camera": (
        lambda root: (root / "sparse/0/cameras.txt").write_text("7 PINHOLE 32 32 44 44 16 16\n"),
        "names camera 1, which is not in its cameras file",
    ),
    "focal length zero": (
        lambda root: (root / "sparse/0/cameras.txt").write_text("1 PINHOLE 32 32 0 44 16 16\n"),
        "focal length is zero",
    ),
    "NaN pose": (
        lambda root: (root / "sparse/0/images.txt").write_text("1 1 0 0 0 nan 0 4 1 0.png\n\n"),
        "non-finite values",
    ),
}


@pytest.mark.parametrize("case", BROKEN_COLMAP)
def test_broken_colmap(tmp_path: Path, case: str) -> None:
    change, message = BROKEN_COLMAP[case]
    root = captures.write_colmap(tmp_path, binary=False)
    change(root)
    with pytest.raises(InputError, match=message):
        read_capture(root)


def test_colmap_model_of_an_unknown_lens(tmp_path: Path) -> None:
    root = captures.write_colmap(tmp_path, lens=(99, "", (1.0, 2.0)))
    with pytest.raises(InputError, match="camera model 99 is not known"):
        read_capture(root)
