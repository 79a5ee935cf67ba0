"""Whatever lies under --images is inspected, or named as left out; folders are taken for labels."""

import os
from pathlib import Path

import captures
import numpy as np
import pytest
from captures import ball_image, orbit, save_image
from PIL import Image

from scene import InputError, label_summary, read_capture, read_image, read_queries


def names(folder: Path, good: tuple[str, ...] = ()) -> list[str]:
    return [query.name for query in read_queries(folder, good)]


@pytest.fixture
def image() -> Image.Image:
    return ball_image(orbit(1)[0])


@pytest.mark.parametrize(
    "suffix",
    ["png", "PNG", "jpg", "JPEG", "jpe", "jfif", "bmp", "dib", "gif", "ppm", "pgm", "pnm", "tif",
     "tiff", "webp", "avif", "jp2", "tga", "apng", "mpo"],
)  # fmt: skip
def test_every_kind_of_image_is_inspected(tmp_path: Path, image: Image.Image, suffix: str) -> None:
    kinds = {"jpe": "JPEG", "jfif": "JPEG", "pnm": "PPM", "apng": "PNG", "mpo": "JPEG"}
    grey = image.convert("L") if suffix == "pgm" else image
    kind = kinds.get(suffix) or Image.registered_extensions()[f".{suffix.lower()}"]
    grey.save(tmp_path / f"part.{suffix}", kind)
    (query,) = read_queries(tmp_path)
    assert read_image(query.image_path).shape == (3, 32, 32)


@pytest.mark.parametrize(
    "name", ["part_normal_01", "gear_alpha_3", "x_depth", "disp_1", "a_disp_2", "0_mask"]
)
def test_names_of_maps_mean_nothing_outside_of_blender(
    tmp_path: Path, image: Image.Image, name: str
) -> None:
    save_image(tmp_path / f"{name}.png", image)
    assert names(tmp_path) == [name]
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"good": 1})
    save_image(root / f"test/good/{name}.png", image)
    assert f"good/{name}" in [query.name for query in read_capture(root).queries]


def test_maps_of_blender_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = captures.write_blender(tmp_path / "lego")
    for folder in (root, root / "test"):
        caplog.clear()
        assert names(folder) == ["r_0", "r_1", "r_2"]
        assert "2 depth, normal or alpha maps (the first is r_0_depth_0000.png)" in caplog.text


def test_folders_of_any_depth_are_inspected(tmp_path: Path, image: Image.Image) -> None:
    for name in ("1", "a/2", "a/b/3", "a/b/c/d/4", "b/5"):
        save_image(tmp_path / f"{name}.png", image)
    assert names(tmp_path) == ["1", "a/2", "a/b/3", "a/b/c/d/4", "b/5"]


def test_what_is_left_out_is_named_with_reason_and_count(
    tmp_path: Path, image: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    save_image(tmp_path / "a.png", image)
    for name in (".hidden.png", "notes.txt", "deep/readme.md", "photo.heic", "raw.dng", "noend"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert names(tmp_path) == ["a"]
    for part in (
        "1 hidden (the first is .hidden.png)", "3 without the extension of an image (the first is",
        "1 .heic files, which are not read: convert them", "1 .dng files", "1 not regular files",
        "1 links to folders that are listed already (the first is loop)",
    ):  # fmt: skip
        assert part in caplog.text


def test_a_folder_without_images_says_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "photo.heic").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no images \(what lies there: 1 \.heic files"):
        read_queries(tmp_path)


def test_a_broken_link_costs_itself_alone(tmp_path: Path, image: Image.Image) -> None:
    save_image(tmp_path / "a.png", image)
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    first, second = read_queries(tmp_path)
    assert read_image(first.image_path).shape == (3, 32, 32)
    with pytest.raises(InputError, match=r"There is no image .*b\.png"):
        read_image(second.image_path)


def test_a_folder_called_test_hides_nothing_where_there_is_no_capture(
    tmp_path: Path, image: Image.Image
) -> None:
    for name in ("test/1", "monday/2", "3"):
        save_image(tmp_path / f"{name}.png", image)
    assert names(tmp_path) == ["3", "monday/2", "test/1"]


def test_masks_belong_to_images_in_folders_of_any_depth(tmp_path: Path, image: Image.Image) -> None:
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"good": 1})
    save_image(root / "test/Dent/left/lot 1/7.png", image)
    save_image(root / "ground_truth/dent/left/lot 1/7_mask.png", Image.new("L", (32, 32)))
    query = read_capture(root).queries[-1]
    assert (query.name, query.label) == ("Dent/left/lot 1/7", "Dent")
    assert query.mask_path == root / "ground_truth/dent/left/lot 1/7_mask.png"
    save_image(root / "ground_truth/dent/left/lot 1/7.png", Image.new("L", (32, 32)))
    with pytest.raises(InputError, match="are masks of one image: remove one"):
        read_capture(root)


def test_defective_images_without_a_mask_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"good": 1, "Burrs": 3})
    (root / "ground_truth/Burrs/1_mask.png").unlink()
    read_capture(root)
    assert "1 of 3 defective images" in caplog.text
    assert "(the first is Burrs/1)" in caplog.text


GOOD = [
    "good", "Good", "GOOD", "ok", "OK", "okay", "normal", "NORMAL", "good_bright", "ok-2",
    "Normal 1", "good2", "pass", "Passed", "defect-free", "no_defect", "IO", "i.O.",
]  # fmt: skip
BAD = ["Dents", "NG", "nio", "goods", "normals", "okra", "defect", "bad", "not_ok", "abnormal"]


@pytest.mark.parametrize("label", GOOD + BAD)
def test_the_usual_names_of_good_folders_are_known(tmp_path: Path, label: str) -> None:
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"good": 1, "Burrs": 1})
    (root / "test/good").rename(root / "test" / label)
    query = next(q for q in read_capture(root).queries if q.label == label)
    assert query.is_anomalous is (label in BAD)


def test_how_every_folder_was_taken_is_said_and_can_be_told(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path / "dog", views=3, labels={"fine": 2, "Burrs": 1})
    queries = read_queries(root)
    assert label_summary(queries) == (
        "labels by folder: Burrs: 1 defective, fine: 2 defective (none is taken for good: name it "
        "with --good-label)"
    )
    (root / "ground_truth/fine/0_mask.png").unlink()
    told = read_queries(root / "test", ["FINE"])
    assert label_summary(told) == "labels by folder: fine: 2 good, Burrs: 1 defective"
    assert read_capture(root, good_labels=["fine"]).queries == told
    with pytest.raises(InputError, match=r"--good-label nice: .* \(Burrs, fine\)"):
        read_queries(root, ["nice"])


def test_names_that_are_no_utf8_are_read_and_can_be_said(
    tmp_path: Path, image: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    save_image(tmp_path / "a.png", image)
    raw = os.fsencode(tmp_path)
    (tmp_path / "a.png").rename(os.fsdecode(raw + b"/a\xff.png"))
    with open(raw + b"/b\xff.txt", "wb"):
        pass
    (query,) = read_queries(tmp_path)
    assert np.isfinite(read_image(query.image_path).numpy()).all()
    caplog.text.encode()


def test_a_folder_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"Cannot read .* \(Permission denied\): fix"):
        read_queries(tmp_path)


def test_a_name_of_any_bytes_leaves_an_error_one_printable_line(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\n\xff\x1b[1m.png"))
    path.write_bytes(b"no image")
    with pytest.raises(InputError) as caught:
        read_image(path)
    text = str(caught.value)
    assert text.encode()
    assert text.isprintable()
    assert "a\\n\\udcff\\x1b[1m.png is not an image" in text
