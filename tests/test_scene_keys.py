"""Keys of transforms.json: each is honoured, refused, or known to say nothing; others are named."""

import json
import math
from pathlib import Path
from typing import Any

import captures
import pytest
from captures import SIZE, frame, orbit, write_transforms

from scene import InputError, read_capture

RADIANS_40 = math.radians(40)


def capture(root: Path, frame_keys: dict[str, Any] | None = None, **shared: Any) -> Path:
    """Three views of 32 x 24 pixels, with `camera_angle_x` unless a focal length is given."""
    frames = []
    for i, pose in enumerate(orbit(3)):
        image = captures.ball_image(pose).resize((SIZE, 24))
        captures.save_image(root / f"train/good/{i}.png", image)
        frames.append(frame(f"train/good/{i}.png", pose, **(frame_keys or {}) if i == 0 else {}))
    write_transforms(root / "transforms.json", frames, **({"camera_angle_x": 0.7} | shared))
    return root


def focal(angle: float, side: float) -> float:
    return 0.5 * side / math.tan(0.5 * angle)


def lens(root: Path, view: int = 0) -> tuple[float, float]:
    camera = read_capture(root).views[view].camera
    return camera.fx, camera.fy


def without_angle(root: Path) -> None:
    content = json.loads((root / "transforms.json").read_text())
    content.pop("camera_angle_x")
    (root / "transforms.json").write_text(json.dumps(content))


def test_the_vertical_angle_is_honoured_and_odd_pixels_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert lens(capture(tmp_path / "a", camera_angle_y=0.4)) == pytest.approx(
        (focal(0.7, 32), focal(0.4, 24))
    )
    assert "pixels are 0.74 times as high as wide" in caplog.text
    square = 2 * math.atan(0.75 * math.tan(0.35))
    caplog.clear()
    assert lens(capture(tmp_path / "b", camera_angle_y=square)) == pytest.approx(
        (focal(0.7, 32),) * 2
    )
    assert "pixels are" not in caplog.text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"fl_y": 40.0}, (40, 40)),
        ({"camera_angle_y": 0.6}, (focal(0.6, 24),) * 2),
        ({"x_fov": 40.0}, (focal(RADIANS_40, 32),) * 2),
        ({"x_fov": 40.0, "y_fov": 30.0}, (focal(RADIANS_40, 32), focal(math.pi / 6, 24))),
        ({"fl_x": 40.0, "camera_angle_y": 0.6}, (40, focal(0.6, 24))),
        ({"fl_x": 80.0, "w": 64, "h": 48}, (40, 40)),
    ],
)  # fmt: skip
def test_every_form_of_a_focal_length(
    tmp_path: Path, keys: dict[str, Any], expected: tuple[float, float]
) -> None:
    root = capture(tmp_path, **keys)
    without_angle(root)
    assert lens(root) == pytest.approx(expected)


def test_a_frame_has_its_own_focal_length_in_whatever_form(tmp_path: Path) -> None:
    root = capture(tmp_path, {"camera_angle_x": 0.9}, fl_x=focal(0.7, 32))
    assert lens(root)[0] == pytest.approx(focal(0.9, 32))
    assert lens(root, 1)[0] == pytest.approx(focal(0.7, 32))


def test_contradicting_focal_lengths_are_refused(tmp_path: Path) -> None:
    message = r"fl_x means a focal length of 80 pixels and camera_angle_x one of 43\.8"
    with pytest.raises(InputError, match=message):
        read_capture(capture(tmp_path / "a", fl_x=80.0))
    fl_x = 2 * focal(0.7, 32)
    assert lens(capture(tmp_path / "b", fl_x=fl_x, w=64, h=48))[0] == pytest.approx(fl_x / 2)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mitsuba": ({"from_mitsuba": True}, "`from_mitsuba` means other camera axes"),
    "opencv axes": ({"camera_convention": "opencv"}, "`camera_convention` is 'opencv': convert"),
    "shutter": ({"rolling_shutter": [0, 0, 0.1, 0]}, "`rolling_shutter` cannot be rendered"),
    "masks": ({"mask_color": [0, 0, 0]}, "`mask_color` hides a part of the image: give"),
    "moving camera": ({"transform_matrix_start": [[1]]}, "moves during the exposure"),
    "k5": ({"k5": 0.1}, r"distortion \(k5\)"),
    "thin prism": ({"s1": 0.1}, r"distortion \(s1\)"),
    "list": ({"distortion_params": [0, 0, 0.1]}, r"distortion \(distortion_params\)"),
    "fisheye": ({"is_fisheye": True}, r"distortion \(fisheye\)"),
    "panorama": ({"camera_model": "EQUIRECTANGULAR"}, r"distortion \(EQUIRECTANGULAR\)"),
    "lower case": ({"camera_model": "opencv_fisheye"}, r"distortion \(OPENCV_FISHEYE\)"),
    "split without frame": ({"train_filenames": ["gone.png"]}, "names 1 images without a frame"),
    "split of numbers": ({"test_filenames": [1]}, "`test_filenames` is no list of names"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_honoured_is_refused(tmp_path: Path, case: str) -> None:
    keys, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        read_capture(capture(tmp_path / "file", **keys))
    if not case.startswith("split"):
        with pytest.raises(InputError, match=message):
            read_capture(capture(tmp_path / "frame", keys))


def test_a_scene_that_moves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a scene that moves"):
        read_capture(capture(tmp_path / "a", {"time": 0.5}, time=0.0))
    assert len(read_capture(capture(tmp_path / "b", time=0.0)).views) == 3


def test_models_without_distortion_pass(tmp_path: Path) -> None:
    keys = {"k1": 0.0, "k2": 0, "p1": 0.0, "distortion_params": [0, 0.0], "is_fisheye": False}
    assert len(read_capture(capture(tmp_path, camera_model="opencv", **keys)).views) == 3


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train_filenames": [0, 2]}, [0, 2]),
        ({"test_filenames": [1]}, [0, 2]),
        ({"val_filenames": [0], "test_filenames": [1]}, [2]),
        ({"train_filenames": [0], "test_filenames": [1]}, [0]),
    ],
)
def test_splits_of_nerfstudio_decide_what_is_trained_on(
    tmp_path: Path, splits: dict[str, list[int]], expected: list[int]
) -> None:
    keys = {key: [f"./train/good/{i}.png" for i in names] for key, names in splits.items()}
    views = read_capture(capture(tmp_path, **keys)).views
    assert [view.name for view in views] == [f"train/good/{i}" for i in expected]


def test_unknown_keys_are_listed_once_and_known_ones_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = {"aabb_scale": 16, "scale": 1.0, "offset": [0, 0, 0], "applied_transform": [[1]],
             "orientation_override": "up", "ply_file_path": "sparse_pc.ply"}  # fmt: skip
    read_capture(capture(tmp_path / "a", {"sharpness": 3, "colmap_im_id": 1}, **known))
    assert "not known" not in caplog.text
    read_capture(capture(tmp_path / "b", {"zoom": 2}, tilt=0.3, zoom=1))
    assert caplog.text.count("keys that are not known and not used: tilt, zoom") == 1


@pytest.mark.parametrize("name", ["..odd/0.png", ".../0.png"])
def test_names_that_merely_begin_with_dots_stay_inside(tmp_path: Path, name: str) -> None:
    captures.save_image(tmp_path / name, captures.ball_image(orbit(1)[0]))
    write_transforms(tmp_path / "transforms.json", [frame(name, orbit(1)[0])])
    assert len(read_capture(tmp_path).views) == 1


@pytest.mark.parametrize("name", ["/etc/0.png", "../0.png", "a/../../0.png", "C:/0.png", "", "."])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    write_transforms(tmp_path / "transforms.json", [frame(name, orbit(1)[0])])
    with pytest.raises(InputError, match="leads out of the folder"):
        read_capture(tmp_path)


NUMBERS: dict[str, tuple[str, str]] = {
    "nested too deep": ("[" * 100_000 + "]" * 100_000, "nested too deep"),
    "5,000 digits": ('{"camera_angle_x": 0.7, "w": ' + "9" * 5000 + "}", "not a finite number"),
    "1e400": ('{"camera_angle_x": 0.7, "fl_x": 1e400}', "not a finite number"),
    "10^400": ('{"fl_x": 1' + "0" * 400 + "}", "not a finite number"),
    "focal length of 1e300": ('{"fl_x": 1e300}', "the focal length is 1e.300 pixels"),
    "tiny angle": ('{"camera_angle_x": 1e-300}', "the focal length is"),
    "width 0": ('{"camera_angle_x": 0.7, "w": 0}', "w x h says 0 x 24"),
    "width 1e300": ('{"camera_angle_x": 0.7, "w": 1e300, "h": 75e298}', "each side is 1 to"),
    "far centre": ('{"camera_angle_x": 0.7, "cx": 1e200}', "correct cx and cy"),
    "text": ('{"camera_angle_x": 0.7, "cx": "left"}', "`cx` is 'left', not a finite number"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_beyond_reason_are_one_sentence(tmp_path: Path, case: str) -> None:
    text, message = NUMBERS[case]
    root = capture(tmp_path)
    frames = json.dumps(json.loads((root / "transforms.json").read_text())["frames"])
    whole = text if text.startswith("[") else text[:-1] + f', "frames": {frames}}}'
    (root / "transforms.json").write_text(whole)
    with pytest.raises(InputError, match=message) as caught:
        read_capture(root)
    assert "transforms.json" in str(caught.value)


@pytest.mark.parametrize("far", [1e200, -1e160, 1e13])
def test_cameras_too_far_away_are_refused(tmp_path: Path, far: float) -> None:
    root = capture(tmp_path)
    content = json.loads((root / "transforms.json").read_text())
    content["frames"][1]["transform_matrix"][0][3] = far
    (root / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"farther than the 1e\+12 that can be computed with"):
        read_capture(root)
