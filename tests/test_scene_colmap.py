"""COLMAP models: text in every layout that programs write, odd points, names that climb out."""

import struct
from pathlib import Path

import captures
import numpy as np
import pytest
import torch
from captures import orbit

from scene import InputError, read_capture


def lines_of(root: Path) -> list[str]:
    """The pose lines of images.txt."""
    lines = (root / "sparse/0/images.txt").read_text().splitlines()
    return [line for line in lines if line.endswith(".png")]


LAYOUTS = {
    "no point lines": lambda poses: poses,
    "empty point lines": lambda poses: [x for pose in poses for x in (pose, "")],
    "point lines": lambda poses: [x for pose in poses for x in (pose, "3.0 4.0 -1 1e1 2 7")],
    "some point lines": lambda poses: [
        x for i, pose in enumerate(poses) for x in ((pose, "3 4 -1") if i % 2 else (pose,))
    ],
    "empty lines anywhere": lambda poses: ["", "", *(x for p in poses for x in (p, "", "", ""))],
    "comments between": lambda poses: [x for pose in poses for x in (pose, "# points", "1 2 3")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_image_of_a_text_model_is_used_whatever_its_point_lines(
    tmp_path: Path, layout: str
) -> None:
    root = captures.write_colmap(tmp_path, binary=False)
    text = "\n".join(LAYOUTS[layout](lines_of(root)))
    (root / "sparse/0/images.txt").write_text(text)
    capture = read_capture(root)
    assert len(capture.views) == 6
    for view, pose in zip(capture.views, orbit(6), strict=True):
        torch.testing.assert_close(view.camera.world_to_camera, pose, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["my photo 1.png", "12 34 56.png", "000012.png"])
def test_names_with_spaces_and_digits_are_names(tmp_path: Path, name: str) -> None:
    root = captures.write_colmap(tmp_path, binary=False)
    (root / "images/0.png").rename(root / "images" / name)
    lines = lines_of(root)
    lines[0] = lines[0].replace("0.png", name)
    (root / "sparse/0/images.txt").write_text("\n".join(lines))
    assert f"images/{name[:-4]}" in [view.name for view in read_capture(root).views]


@pytest.mark.parametrize("lines", [["1 2 3"], ["pose", "1 2 3", "1 2 3"], ["pose", "1 2 3 4"]])
def test_lines_that_are_neither_a_pose_nor_points_are_damage(
    tmp_path: Path, lines: list[str]
) -> None:
    root = captures.write_colmap(tmp_path, binary=False)
    pose = lines_of(root)[0]
    text = "\n".join(pose if line == "pose" else line for line in lines)
    (root / "sparse/0/images.txt").write_text(text)
    with pytest.raises(InputError, match=r"images\.txt is truncated or not of COLMAP's format"):
        read_capture(root)


def test_images_in_folders_of_any_depth_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = captures.write_colmap(tmp_path, binary=False)
    lines = []
    for i, line in enumerate(lines_of(root)):
        captures.save_image(root / f"images/a/b/{i}.png", captures.ball_image(orbit(6)[i]))
        (root / f"images/{i}.png").unlink()
        lines.append(line.replace(f"{i}.png", f"a/b/{i}.png"))
    (root / "sparse/0/images.txt").write_text("\n".join(lines))
    with caplog.at_level("INFO"):
        assert len(read_capture(root).views) == 6
    assert "registered 6 of 6 images" in caplog.text


@pytest.mark.parametrize("name", ["/etc/x.png", "../x.png", "a/../../x.png", "C:\\x.png", "..\\x"])
@pytest.mark.parametrize("binary", [True, False])
def test_names_that_lead_out_of_the_capture_are_refused(
    tmp_path: Path, name: str, binary: bool
) -> None:
    root = captures.write_colmap(tmp_path / "cup", views=1, binary=binary)
    captures.save_image(tmp_path / "x.png", captures.ball_image(orbit(1)[0]))
    model = root / "sparse/0"
    if binary:
        content = (model / "images.bin").read_bytes()
        (model / "images.bin").write_bytes(content.replace(b"0.png", name.encode()))
    else:
        (model / "images.txt").write_text(lines_of(root)[0].replace("0.png", name))
    with pytest.raises(InputError, match="lies outside of"):
        read_capture(root)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("binary", [True, False])
def test_points_that_lie_nowhere_are_left_out_and_counted(
    tmp_path: Path, value: float, binary: bool, caplog: pytest.LogCaptureFixture
) -> None:
    root = captures.write_colmap(tmp_path, binary=binary)
    model = root / "sparse/0"
    if binary:
        content = bytearray((model / "points3D.bin").read_bytes())
        content[16:24] = struct.pack("<d", value)
        (model / "points3D.bin").write_bytes(content)
    else:
        text = (model / "points3D.txt").read_text().replace("0 0.0 0.0 0.8", f"0 {value} 0.0 0.8")
        (model / "points3D.txt").write_text(text)
    points = read_capture(root).points
    assert points is not None
    assert len(points.xyz) == 2
    assert np.isfinite(points.xyz.numpy()).all()
    assert "1 of 3 points" in caplog.text


@pytest.mark.parametrize("parameters", [(1e300, 44.0, 16.0, 16.0), (44.0, 44.0, 1e200, 16.0)])
@pytest.mark.parametrize("binary", [True, False])
def test_lenses_beyond_reason_are_one_sentence(
    tmp_path: Path, parameters: tuple[float, ...], binary: bool
) -> None:
    root = captures.write_colmap(tmp_path, lens=(1, "PINHOLE", parameters), binary=binary)
    with pytest.raises(InputError, match=r"image 0\.png: the (focal length|principal point) is"):
        read_capture(root)
