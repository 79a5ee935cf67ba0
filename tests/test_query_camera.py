"""Queries of another camera than the train views': told by a file or by EXIF, and undone."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pose_scenes import WHITE, lens, orbit, picture, tiny_object

from pipeline.reading import QueryReader, QuerySetup
from preparation.output import write_cameras
from preparation.sfm import Lens
from scene import Camera, Distortion, InputError, QueryLens, exif_lens, query_lens, read_mask
from scene.readers.camera_file import pinhole_lens, read_camera

VIEW = orbit(12)[3]
MATRIX = np.array([[150.0, 0, 62.5], [0, 151.0, 47.5], [0, 0, 1]])
BENT = np.array([[-0.2, 0.05, 0.001, -0.002, 0.01]])


def save(path: Path, image: torch.Tensor, **more: object) -> Path:
    values = (image * 255).round().byte().numpy()
    values = values if values.ndim == 2 else values.transpose(1, 2, 0)
    Image.fromarray(values).save(path, **more)  # type: ignore[arg-type]
    return path


def opencv_file(path: Path) -> Path:
    """As OpenCV's calibration sample writes it, in the format of the extension."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 128)
    storage.write("image_height", 96)
    storage.write("camera_matrix", MATRIX)
    storage.write("distortion_coefficients", BENT)
    storage.release()
    return path


def plain_file(path: Path, camera: Camera, **more: object) -> Path:
    values = {"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy,
              "w": camera.width, "h": camera.height}  # fmt: skip
    path.write_text(json.dumps(values | more))
    return path


def reader(own: QueryLens) -> QueryReader:
    return QueryReader(lens(), WHITE, True, setup=QuerySetup(lens=own))


def at_64_pixels(camera: Camera) -> Camera:
    return replace(camera, world_to_camera=VIEW.world_to_camera)


@pytest.mark.parametrize("suffix", ["yml", "yaml", "xml", "json"])
def test_files_of_opencv_are_read(tmp_path: Path, suffix: str) -> None:
    camera, bent = read_camera(opencv_file(tmp_path / f"camera.{suffix}"), (1, 1))
    assert (camera.width, camera.height) == (128, 96)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (150, 151, 63, 48)
    assert bent.radial == (-0.2, 0.05, 0.01)
    assert bent.tangential == (0.001, -0.002)


def test_files_of_ros_are_read(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text(
        "image_width: 128\nimage_height: 96\ncamera_name: head\n"
        "camera_matrix:\n  rows: 3\n  cols: 3\n  data: [150, 0, 62.5, 0, 151, 47.5, 0, 0, 1]\n"
        "distortion_model: plumb_bob\n"
        "distortion_coefficients:\n  rows: 1\n  cols: 5\n"
        "  data: [-0.2, 0.05, 0.001, -0.002, 0.01]\n"
    )
    expected = read_camera(opencv_file(tmp_path / "opencv.yml"), (1, 1))
    camera, bent = read_camera(path, (1, 1))
    assert bent == expected[1]
    assert (camera.fx, camera.cy, camera.height) == (150, 48, 96)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "neither camera_matrix nor fx"),
        ("[]", "holds no camera"),
        ("\x00\x01", "camera"),
        ('{"fx": "wide", "w": 10, "h": 10}', "fx is 'wide': give a number"),
        ('{"fx": 1e9, "w": 10, "h": 10}', "focal length is 1e\\+09"),
        ('{"fx": NaN, "w": 10, "h": 10}', "not finite"),
        ('{"camera_matrix": [[1, 2], [3, 4]]}', "has 4 values, not 9"),
        ('{"camera_matrix": "wide"}', "camera_matrix is no matrix of numbers"),
        ('{"fx": 9, "w": 10, "h": 10, "D": [1, 2, 3]}', "it has 3: correct it"),
        ('{"fx": 9, "w": 10, "h": 10, "k1": -9}', "folds the image over"),
        ('{"fx": 9, "w": 10, "h": 10, "camera_model": "OPENCV_FISHEYE"}', "fisheye"),
        (
            '{"fx": 9, "w": 9, "h": 9, "camera_model": "pinhole", '
            '"distortion_model": "equidistant"}',
            "fisheye",
        ),
        ('{"camera_matrix": [[9, 0, 5], [0, 9, 5], [0, 0, 0.5]], "w": 9, "h": 9}', "without skew"),
        ('{"camera_matrix": [[9, 0, 0], [0, 9, 0], [5, 5, 1]], "w": 9, "h": 9}', "without skew"),
        ('{"fx": 1' + "0" * 400 + ', "w": 10, "h": 10}', "give a number"),
        ("[" * 100_000, "brackets"),
    ],
)
def test_a_bad_camera_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "camera.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        query_lens(path, lens(), [])
    assert str(path) in str(refused.value)


def test_a_camera_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no camera file"):
        query_lens(tmp_path / "none.yml", lens(), [])


@pytest.mark.parametrize(
    "other",
    [
        Camera(torch.eye(4), 60.0, 60.0, 48.0, 40.0, 96, 80),  # wider
        Camera(torch.eye(4), 300.0, 310.0, 120.0, 99.0, 245, 201),  # larger, square no more
        Camera(torch.eye(4), 150.0, 150.0, 64.0, 30.0, 128, 64),  # half of its height
    ],
)
def test_a_query_of_another_camera_becomes_one_of_the_models(tmp_path: Path, other: Camera) -> None:
    path = save(tmp_path / "a.png", picture(tiny_object(), at_64_pixels(other)))
    own = query_lens(plain_file(tmp_path / "c.json", other), lens(), [path])
    found = reader(own)(path)
    expected = picture(tiny_object(), VIEW)
    seen = own.seen()
    assert 0.4 < float(seen.float().mean()) <= 1
    assert float((found.image - expected).abs().amax(dim=0)[seen].mean()) < 0.006
    assert float((expected - 1).abs().mean()) > 0.02  # something is shown
    if not bool(seen.all()):
        assert found.ignored is not None
        assert torch.equal(found.ignored, ~seen)
        assert (found.image[:, ~seen] == 1).all()
    else:
        assert found.ignored is None


def test_distortion_is_undone_as_opencv_does(tmp_path: Path) -> None:
    own = query_lens(opencv_file(tmp_path / "c.yml"), lens(), [])
    smooth = cv2.resize(np.random.default_rng(0).uniform(size=(7, 9)), (128, 96))
    ours = own.undone(smooth[None].astype(np.float32))[0]
    target = lens().intrinsics.numpy() * [[2], [2], [1]]
    target[:2, 2] -= 0.5
    maps = cv2.initUndistortRectifyMap(MATRIX, BENT, None, target, (128, 128), cv2.CV_32FC1)
    theirs = cv2.remap(smooth, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(ours, theirs, atol=0.025)  # they interpolate differently


def test_prepare_writes_the_camera_of_its_photographs(tmp_path: Path) -> None:
    taken = Lens(1600, 1067, 1500.0, 1510.0, 801.0, 530.0, (-0.1, 0.02, 0.001, -0.002))
    write_cameras(tmp_path, {"a": taken})
    write_cameras(tmp_path, {"b": taken, "c": taken})
    camera, bent = read_camera(tmp_path / "camera.json", (1, 1))
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (1500, 1510, 801, 530)
    assert (*bent.radial, *bent.tangential) == (-0.1, 0.02, 0.0, 0.001, -0.002)
    names = ["camera.json", "camera_b.json", "camera_c.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_masks_of_defects_are_warped_alike(tmp_path: Path) -> None:
    other = Camera(torch.eye(4), 180.0, 180.0, 64.0, 64.0, 128, 128)  # twice the focal length
    own = QueryLens(pinhole_lens(other), (128, 128), lens(), "a test")
    mask = torch.zeros(128, 128)
    mask[40:88, 40:88] = 1
    found = read_mask(save(tmp_path / "m.png", mask), (64, 64), own)
    half = 24 * 1.4 * 64 / 180
    assert found.shape == (64, 64)
    assert int(found.sum()) == pytest.approx((2 * half) ** 2, rel=0.1)


def test_exif_tells_the_focal_length_when_asked(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 50
    image = torch.rand(3, 96, 128)
    told = save(tmp_path / "a.jpg", image, exif=exif)
    own = exif_lens(lens(), [told, tmp_path / "missing.jpg"])
    assert own.size == (128, 96)
    assert own.lens.focal[0] * 128 == pytest.approx(50 / 43.27 * 160, rel=1e-6)
    assert "times the train views'" in own.text
    untold = save(tmp_path / "b.jpg", image)
    with pytest.raises(InputError, match="FocalLengthIn35mmFilm"):
        exif_lens(lens(), [told, untold])


def test_a_query_of_another_shape_than_its_camera_is_refused(tmp_path: Path) -> None:
    other = Camera(torch.eye(4), 180.0, 180.0, 64.0, 48.0, 128, 96)
    own = QueryLens(pinhole_lens(other), (128, 96), lens(), "camera.json")
    path = save(tmp_path / "a.png", torch.rand(3, 64, 64))
    with pytest.raises(InputError, match=r"aspect ratio. The camera is that of camera\.json"):
        reader(own)(path)


def test_a_camera_that_looks_past_the_model_is_refused() -> None:
    aside = Distortion((), (0.0, 0.0), (), (9.0, 9.0), (40.0, 0.5))
    with pytest.raises(InputError, match="sees next to nothing"):
        QueryLens(aside, (64, 64), lens(), "camera.json")


@pytest.mark.parametrize(("query", "model"), [((1068, 712), (400, 268)), ((801, 533), (400, 266))])
def test_sizes_that_differ_by_rounding_fit(
    tmp_path: Path, query: tuple[int, int], model: tuple[int, int]
) -> None:
    """The same camera reduced, to even numbers or twice."""
    width, height = model
    camera = Camera(torch.eye(4), 500.0, 500.0, width / 2, height / 2, width, height)
    random = np.random.default_rng(0).integers(0, 255, (*query[::-1], 3), dtype=np.uint8)
    Image.fromarray(random).save(tmp_path / "a.png")
    found = QueryReader(camera, WHITE, False)(tmp_path / "a.png")
    assert tuple(found.image.shape) == (3, height, width)
