"""Images: conversion of every kind of file, area resampling, silhouettes and backgrounds."""

from pathlib import Path

import captures
import numpy as np
import pytest
import torch
from PIL import Image

from scene import (
    InputError,
    images,
    read_capture,
    read_image,
    read_mask,
    read_train_images,
    silhouette,
)
from scene.images import image_size
from scene.survey import survey_images


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def test_values_are_exact(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = read_image(save(tmp_path / "a.png", pixels), (7, 5))
    assert (image.dtype, image.shape) == (torch.float32, (3, 5, 7))
    expected = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    assert torch.equal(image, expected)
    assert image_size(tmp_path / "a.png") == (7, 5)


def test_transparency_is_composited(tmp_path: Path) -> None:
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 51], [9, 9, 9, 0]]], np.uint8)
    path = save(tmp_path / "a.png", pixels)
    image = read_image(path, background=(0.0, 0.5, 1.0))
    expected = torch.tensor([[1, 0, 0], [0.2, 0.4, 0.8], [0, 0.5, 1]])
    torch.testing.assert_close(image[:, 0].T, expected)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "CMYK", "RGBA"])
def test_other_kinds_are_converted(tmp_path: Path, mode: str) -> None:
    grey = np.repeat(np.array([[[0], [255]]], np.uint8), 3, axis=2)
    suffix = ".tif" if mode == "CMYK" else ".png"
    image = read_image(save(tmp_path / f"a{suffix}", grey, mode))
    torch.testing.assert_close(image, torch.tensor([[[0.0, 1.0]]]).expand(3, 1, 2))


def test_sixteen_bits_and_transparent_palette(tmp_path: Path) -> None:
    deep = save(tmp_path / "deep.png", np.array([[0, 65535, 32768]], np.uint16))
    torch.testing.assert_close(read_image(deep)[1, 0], torch.tensor([0, 1, 32768 / 65535]))
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=1)
    image = read_image(tmp_path / "p.png")
    torch.testing.assert_close(image[:, 0], torch.tensor([[1.0, 1], [0, 1], [0, 1]]))


def test_thirty_two_bits_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.ones((2, 2), np.float32))
    with pytest.raises(InputError, match=r"a\.tif holds 32 bits a pixel .*: save it with 8 or 16"):
        read_image(path)


def test_shrinking_averages_over_areas(tmp_path: Path) -> None:
    checks = np.zeros((8, 8, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    path = save(tmp_path / "a.png", checks)
    torch.testing.assert_close(read_image(path, (4, 4)), torch.full((3, 4, 4), 0.5))
    # 3 onto 2: each new pixel covers one and a half old ones
    row = np.repeat(np.array([[[0], [255], [0]]], np.uint8), 3, axis=2)
    uneven = read_image(save(tmp_path / "b.png", np.repeat(row, 3, axis=0)), (2, 2))
    torch.testing.assert_close(uneven, torch.full((3, 2, 2), 1 / 3), atol=1e-6, rtol=0)


def test_aspect_ratio_may_be_off_by_rounding_only(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((67, 100, 3), np.uint8))
    assert read_image(path, (50, 33)).shape == (3, 33, 50)
    assert read_image(path, (50, 34)).shape == (3, 34, 50)
    assert read_image(path, (600, 400)).shape == (3, 400, 600)
    with pytest.raises(InputError, match=r"100 x 67 pixels, which does not fit .* 50 x 50"):
        read_image(path, (50, 50))
    with pytest.raises(InputError, match="of the same aspect ratio"):
        read_mask(path, (33, 50))


def test_unreadable_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no image .*gone\.png: restore it"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match=r"text\.png is not an image"):
        read_image(tmp_path / "text.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="Cannot open the image"):
        read_image(tmp_path / "folder.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_images(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    with pytest.raises(InputError, match=rf"a\.{suffix}"):
        read_image(path)


def test_damaged_header(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x05IHDR" + bytes(30))
    with pytest.raises(InputError, match=r"a\.png"):
        read_image(path)


def test_mask(tmp_path: Path) -> None:
    pixels = np.array([[0, 255, 130, 120]], np.uint8)
    path = save(tmp_path / "m.png", np.repeat(pixels, 4, axis=0))
    assert read_mask(path)[0].tolist() == [False, True, True, False]
    assert read_mask(path, (2, 2)).tolist() == [[False, False]] * 2  # means 127.5 and 125


def test_silhouette_tolerates_small_differences() -> None:
    image = torch.full((3, 3, 9), 0.5)
    image[0, :, 3:6] = 0.5 + 6 / 255
    image[2, :, 6:] = 0.5 + 10 / 255
    found = silhouette(image, (0.5, 0.5, 0.5))
    assert found[1].tolist() == [False] * 6 + [True] * 3


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (10, 120, 200)])
def test_background_of_opaque_images(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    paths = []
    for i in range(30):
        pixels = np.full((20, 20, 3), colour, np.uint8)
        pixels[5:15, 5:15] = 90
        if i % 5 == 0:
            pixels[:, -10:] = 130  # the object leaves the frame in some views
        paths.append(save(tmp_path / f"{i}.png", pixels))
    found = survey_images(paths).background
    assert found == pytest.approx(tuple(c / 255 for c in colour))


def test_background_in_a_photograph_is_unknown(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    paths = [
        save(tmp_path / f"{i}.png", noise.integers(0, 256, (20, 20, 3), dtype=np.uint8))
        for i in range(3)
    ]
    assert survey_images(paths).background is None


def test_background_survives_jpeg(tmp_path: Path) -> None:
    image = captures.ball_image(captures.orbit(1)[0], 64)
    image.save(tmp_path / "a.jpg", quality=80)
    assert survey_images([tmp_path / "a.jpg"]).background == pytest.approx((1, 1, 1), abs=0.01)


def test_background_of_transparent_images_is_white(tmp_path: Path) -> None:
    captures.ball_image(captures.orbit(1)[0], alpha=True).save(tmp_path / "a.png")
    assert survey_images([tmp_path / "a.png"]).background == (1.0, 1.0, 1.0)


def test_specks_of_noise_are_no_silhouette() -> None:
    image = torch.ones(3, 60, 80)
    image[:, 20:40, 30:60] = 0.5
    image[:, 10, 5:70] = 0.5  # a line of one pixel is part of the object
    clean = silhouette(image, (1.0, 1.0, 1.0))
    assert torch.equal(clean[20:40, 30:60], torch.ones(20, 30, dtype=torch.bool))
    assert clean[10, 6:69].all()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    noisy = silhouette(image + 0.012 * noise, (1.0, 1.0, 1.0))
    assert (noisy & ~clean).float().mean() < 0.004
    assert ((image + 0.012 * noise - 1.0).abs() > 8 / 255).any(dim=0)[45:].float().mean() > 0.02


def test_specks_can_be_kept_and_the_background_be_a_tensor() -> None:
    image = torch.ones(3, 9, 9)
    image[:, 4, 4] = 0.5
    assert not silhouette(image, (1.0, 1.0, 1.0)).any()
    assert silhouette(image, torch.ones(3), keep_specks=True).nonzero().tolist() == [[4, 4]]


def test_train_images_are_the_bytes_of_the_files_and_their_silhouettes(tmp_path: Path) -> None:
    capture = read_capture(captures.write_mad(tmp_path / "dog", 3, {"good": 1}), resolution=16)
    read = read_train_images(capture, capture.views[1:])
    expected = [read_image(view.image_path, (16, 16)) for view in capture.views[1:]]
    assert all(colours.dtype == torch.uint8 for colours in read.colours)
    for found, wanted in zip(read.floats(), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=0.5 / 255 + 1e-6, rtol=0)
    assert read.silhouettes is not None
    for mask, image in zip(read.silhouettes, read.floats(), strict=True):
        assert torch.equal(mask, silhouette(image, (1.0, 1.0, 1.0)))


def test_train_images_with_alpha_take_their_silhouettes_from_it(tmp_path: Path) -> None:
    capture = read_capture(captures.write_blender(tmp_path / "lego"))
    read = read_train_images(capture, capture.views)
    assert read.silhouettes is not None
    for view, mask in zip(capture.views, read.silhouettes, strict=True):
        assert torch.equal(mask, captures.ball_mask(view.camera))
    opaque = np.full((32, 32, 4), 255, np.uint8)
    opaque[8:24, 8:24, :3] = 9  # alpha of ones says nothing: the colours do
    save(capture.views[0].image_path, opaque)
    first = read_train_images(capture, capture.views[:1]).silhouettes
    assert first is not None
    assert int(first[0].sum()) == 16 * 16


def test_train_images_have_no_silhouettes_where_no_plain_background_is(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog", 3, {"good": 1})
    noise = np.random.default_rng(0)
    for path in (root / "train/good").iterdir():
        save(path, noise.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    capture = read_capture(root)
    read = read_train_images(capture, capture.views)
    assert (capture.background, read.silhouettes, len(read.colours)) == (None, None, 3)


def test_train_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = read_capture(captures.write_blender(tmp_path / "lego"))
    opened: list[Path] = []
    decode = images.read_pixels
    monkeypatch.setattr(
        images, "read_pixels",
        lambda path, *args, **more: opened.append(path) or decode(path, *args, **more),
    )  # fmt: skip
    read_train_images(capture, capture.views)
    assert opened == [view.image_path for view in capture.views]
