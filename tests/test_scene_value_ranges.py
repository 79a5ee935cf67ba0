"""What the values of image files mean: depth, alpha, profiles, nearly black or white captures."""

import io
import logging
import zlib
from collections.abc import Callable
from pathlib import Path

import captures
import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

from scene import InputError, read_capture, read_image, read_train_images
from scene.survey import survey_images


def repaint(root: Path, change: Callable[[np.ndarray], np.ndarray], suffix: str = ".png") -> None:
    """Replaces every train image by what `change` makes of its RGB values [H, W, 3] uint8."""
    for path in (root / "train/good").glob("*.png"):
        values = change(np.asarray(Image.open(path).convert("RGB")))
        path.unlink()
        if values.ndim == 3:
            values = values[..., [2, 1, 0, 3][: values.shape[2]]]
        assert cv2.imwrite(str(path.with_suffix(suffix)), values)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return captures.write_mad(tmp_path / "dog", views=4, labels={"good": 1})


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_ten_to_sixteen_bits_in_sixteen_give_the_same_colours(
    capture: Path, bits: int, grey: bool, suffix: str
) -> None:
    expected = read_train_images(read_capture(capture), read_capture(capture).views[:1]).floats()[0]
    if grey:
        expected = expected[:1].expand(3, -1, -1)

    def deepen(values: np.ndarray) -> np.ndarray:
        deep = np.round(values / 255 * (2**bits - 1)).astype(np.uint16)
        return deep[..., 0] if grey else deep

    repaint(capture, deepen, suffix)
    frames = (capture / "transforms.json").read_text().replace(".png", suffix)
    (capture / "transforms.json").write_text(frames)
    found = read_capture(capture)
    assert found.white == 2**bits - 1
    images = read_train_images(found, found.views[:1])
    torch.testing.assert_close(images.floats()[0], expected, atol=2 / 255, rtol=0)
    assert found.background == (1.0, 1.0, 1.0)
    query = read_image(found.views[0].image_path, (32, 32), white=found.white)
    torch.testing.assert_close(query, expected, atol=2 / 255, rtol=0)


def test_a_query_that_does_not_have_the_depth_of_the_capture_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((4, 4), 4095, np.uint16))
    assert read_image(path, white=4095.0).unique().tolist() == [1.0]
    with pytest.raises(InputError, match=r"a\.png holds values up to 4095, where .* reach 1023"):
        read_image(path, white=1023.0)
    with pytest.raises(InputError, match=r"up to 4095 only, of 65535 .*: scale them"):
        read_image(path)


@pytest.mark.parametrize("top", [1.0, 255.0, 4095.0])
def test_float_images_are_read_by_the_range_of_the_capture(capture: Path, top: float) -> None:
    before = read_capture(capture)
    expected = read_train_images(before, before.views[:1]).floats()[0][:1]
    repaint(capture, lambda v: (v[..., 0] / 255 * top).astype(np.float32), ".tif")
    frames = (capture / "transforms.json").read_text().replace(".png", ".tif")
    (capture / "transforms.json").write_text(frames)
    found = read_capture(capture)
    assert found.white == top
    images = read_train_images(found, found.views[:1]).floats()[0]
    torch.testing.assert_close(images[:1], expected, atol=1 / 255, rtol=0)


def test_not_a_number_in_float_images_is_refused(capture: Path) -> None:
    repaint(capture, lambda v: np.full(v.shape[:2], np.nan, np.float32), ".tif")
    frames = (capture / "transforms.json").read_text().replace(".png", ".tif")
    (capture / "transforms.json").write_text(frames)
    with pytest.raises(InputError, match="infinite or NaN"):
        read_capture(capture)


@pytest.mark.parametrize(("level", "word"), [(0, "black"), (215, "white")])
def test_a_nearly_black_or_white_capture_is_named(
    capture: Path, level: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    repaint(capture, lambda values: (level + values // 8).astype(np.uint8))
    read_capture(capture)
    assert f"nearly {word}" in caplog.text


@pytest.mark.parametrize("level", [0, 130, 250])
def test_a_capture_in_which_nothing_can_be_seen_is_refused(capture: Path, level: int) -> None:
    repaint(capture, lambda values: (level + values // 50).astype(np.uint8))
    with pytest.raises(InputError, match="no object can be seen: export them"):
        read_capture(capture)


ALPHAS: dict[str, Callable[[np.ndarray], None]] = {
    "one pixel of 250": lambda alpha: alpha.__setitem__((3, 3), 250),
    "one pixel of 0": lambda alpha: alpha.__setitem__((3, 3), 0),
    "254 all over": lambda alpha: alpha.fill(254),
    "half all over": lambda alpha: alpha.fill(127),
    "nothing all over": lambda alpha: alpha.fill(0),
    "noise near the top": lambda alpha: np.copyto(
        alpha, np.random.default_rng(0).integers(245, 256, alpha.shape, dtype=np.uint8)
    ),
}


@pytest.mark.parametrize("kind", ALPHAS)
def test_alpha_that_cuts_nothing_out_is_ignored_and_said(
    capture: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fill(values: np.ndarray) -> np.ndarray:
        grey = np.where(values == 255, 40, values).astype(np.uint8)  # background 40
        alpha = np.full(values.shape[:2], 255, np.uint8)
        ALPHAS[kind](alpha)
        return np.dstack([grey, alpha])

    repaint(capture, fill)
    found = read_capture(capture)
    assert found.background == pytest.approx((40 / 255,) * 3)
    assert "alpha channel that cuts nothing out" in caplog.text
    image = read_train_images(found, found.views[:1])
    assert image.colours[0][:, 0, 0].tolist() == [40, 40, 40]
    assert image.silhouettes is not None
    assert 0.05 < float(image.silhouettes[0].float().mean()) < 0.5


def test_transparency_counts_where_most_images_have_it(tmp_path: Path) -> None:
    paths = []
    for i, pose in enumerate(captures.orbit(5)):
        paths.append(tmp_path / f"{i}.png")
        captures.ball_image(pose, alpha=i > 0).save(paths[-1])
    assert survey_images(paths).background == (1.0, 1.0, 1.0)


def profile_with_gamma(gamma: float) -> bytes:
    """sRGB's profile with another tone curve, written as ICC's type `curv` of one number."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = content.find(b"para")
    assert at > 0
    content[at : at + 14] = (
        b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big")
    )
    return bytes(content)


def test_a_colour_profile_other_than_srgb_is_converted_by(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 3), 128, np.uint8)
    image = Image.fromarray(pixels)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "srgb.png", icc_profile=srgb)
    image.save(tmp_path / "linear.png", icc_profile=profile_with_gamma(1.0))
    image.save(tmp_path / "odd.png", icc_profile=b"no profile")
    assert torch.equal(read_image(tmp_path / "srgb.png"), torch.full((3, 4, 4), 128 / 255))
    assert torch.equal(read_image(tmp_path / "odd.png"), torch.full((3, 4, 4), 128 / 255))
    # half of the light is encoded as 188 in sRGB
    linear = read_image(tmp_path / "linear.png") * 255
    torch.testing.assert_close(linear, torch.full((3, 4, 4), 188.0), atol=2, rtol=0)
    clear = np.dstack([pixels, np.tile([0, 255], (4, 2)).astype(np.uint8)])
    Image.fromarray(clear).save(tmp_path / "alpha.png", icc_profile=profile_with_gamma(1.0))
    alpha = read_image(tmp_path / "alpha.png") * 255
    torch.testing.assert_close(alpha[0, 0], torch.tensor([255.0, 188, 255, 188]), atol=2, rtol=0)


def test_a_png_whose_gamma_is_linear_is_encoded(tmp_path: Path) -> None:
    for name, value in (("linear", 1.0), ("usual", 0.45455)):
        chunks = PngImagePlugin.PngInfo()
        chunks.add(b"gAMA", round(value * 100000).to_bytes(4, "big"))
        Image.new("RGB", (2, 2), (128, 128, 128)).save(tmp_path / f"{name}.png", pnginfo=chunks)
    assert read_image(tmp_path / "usual.png").unique().tolist() == [pytest.approx(128 / 255)]
    assert read_image(tmp_path / "linear.png").unique().tolist() == [pytest.approx(188 / 255)]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_an_eps_called_otherwise_starts_no_program(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", refuse)
    (tmp_path / f"a{suffix}").write_bytes(EPS)
    with pytest.raises(InputError, match="is not an image that can be read"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("kind", [RuntimeError, MemoryError, IndexError, AssertionError])
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")

    def fail(*args: object) -> None:
        raise kind("of a decoder")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(InputError, match=r"a\.png is truncated or damaged \(of a decoder\)"):
        read_image(tmp_path / "a.png")


def test_more_pixels_than_can_be_read_are_refused_before_decoding(tmp_path: Path) -> None:
    header = (20_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "PNG")
    data = bytearray(content.getvalue())
    data[16:29] = header
    data[29:33] = zlib.crc32(b"IHDR" + header).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(InputError, match=r"bomb\.png has more than the 178,956,970 pixels"):
        read_image(tmp_path / "bomb.png", (400, 400))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_large_images_are_reduced_while_decoding_to_the_same_colours(
    tmp_path: Path, suffix: str, mode: str
) -> None:
    ramp = np.linspace(0, 255, 5000).astype(np.uint8)
    image = Image.fromarray(np.tile(ramp, (4000, 1))).convert(mode)
    image.save(tmp_path / f"a.{suffix}", quality=95)
    found = read_image(tmp_path / f"a.{suffix}", (50, 40))
    expected = torch.from_numpy(ramp.reshape(50, 100).mean(1) / 255).float()
    torch.testing.assert_close(found, expected.expand(3, 40, 50), atol=1.5 / 255, rtol=0)


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp"])
def test_several_images_in_one_file_are_refused(tmp_path: Path, suffix: str) -> None:
    pages = [Image.new("RGB", (8, 8), (40 * i, 0, 0)) for i in range(3)]
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="holds several images: save each as a file"):
        read_image(tmp_path / f"a.{suffix}")
    pages[0].save(tmp_path / f"b.{suffix}", save_all=True)
    assert read_image(tmp_path / f"b.{suffix}").shape == (3, 8, 8)


def test_a_preview_beside_the_image_is_no_second_image(tmp_path: Path) -> None:
    large, small = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (4, 4))
    large.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    assert read_image(tmp_path / "a.tif").shape == (3, 16, 16)


def turn(root: Path, orientation: int, size: tuple[int, int] = (32, 32)) -> None:
    """Gives every train image an EXIF orientation, as JPEG."""
    for path in (root / "train/good").glob("*.png"):
        image = Image.open(path).convert("RGB").resize(size)
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    frames = (root / "transforms.json").read_text().replace(".png", ".jpg")
    (root / "transforms.json").write_text(frames)


def test_an_exif_orientation_of_train_images_is_named(
    capture: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turn(capture, 1)
    read_capture(capture)
    assert "EXIF" not in caplog.text
    turn_again = captures.write_mad(capture.parent / "cat", views=4, labels={"good": 1})
    turn(turn_again, 6)
    read_capture(turn_again)
    assert "4 train images have an EXIF orientation" in caplog.text


def test_a_pose_for_the_turned_image_is_refused_with_the_cause(
    capture: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turn(capture, 6, (32, 24))
    text = (capture / "transforms.json").read_text()
    (capture / "transforms.json").write_text(text.replace("{", '{"w": 24, "h": 32, ', 1))
    with pytest.raises(InputError, match=r"EXIF orientation \(6\) turns it.*turn the pixels"):
        read_capture(capture)
    (capture / "transforms.json").write_text(text.replace("{", '{"w": 32, "h": 24, ', 1))
    with caplog.at_level(logging.WARNING):
        read_capture(capture)
    assert "EXIF" not in caplog.text  # the poses are of the pixels as stored
