"""Masks of train views as files of their own, and frames without files."""

import json
from pathlib import Path

import captures
import numpy as np
import pytest
import torch
from captures import SIZE, ball_mask, camera_at, orbit
from PIL import Image

from scene import InputError, read_capture, read_train_images


def clutter(pose: torch.Tensor, seed: int) -> Image.Image:
    """The ball before noise."""
    image = np.array(captures.ball_image(pose))
    outside = ~ball_mask(camera_at(pose)).numpy()
    noise = np.random.default_rng(seed).integers(0, 255, image.shape, dtype=np.uint8)
    image[outside] = noise[outside]
    return Image.fromarray(image)


def save_mask(path: Path, pose: torch.Tensor) -> None:
    captures.save_image(
        path, Image.fromarray(255 * ball_mask(camera_at(pose)).numpy().astype("u1"))
    )


def check_cut_out(root: Path) -> None:
    capture = read_capture(root)
    assert capture.background == (1.0, 1.0, 1.0)
    images = read_train_images(capture, capture.views)
    assert images.silhouettes is not None
    for view, image, outline in zip(capture.views, images.colours, images.silhouettes, strict=True):
        assert torch.equal(outline, ball_mask(view.camera))
        assert (image[:, ~outline] == 255).all()
        assert image[:, outline].float().mean(dim=1).tolist() == list(captures.COLOUR)


def test_mask_path_says_where_the_object_is(tmp_path: Path) -> None:
    frames = []
    for i, pose in enumerate(orbit(4)):
        captures.save_image(tmp_path / f"images/{i}.png", clutter(pose, i))
        save_mask(tmp_path / f"m/{i}.png", pose)
        frames.append(captures.frame(f"images/{i}.png", pose, mask_path=f"./m/{i}.png"))
    captures.write_transforms(tmp_path / "transforms.json", frames)
    check_cut_out(tmp_path)


@pytest.mark.parametrize("ending", [".png.png", ".png", ".PNG"])
def test_a_folder_of_masks_beside_the_images_of_colmap(tmp_path: Path, ending: str) -> None:
    root = captures.write_colmap(tmp_path, lens=(1, "PINHOLE", camera_at(orbit(1)[0]).intrinsics[
        [0, 1, 0, 1], [0, 1, 2, 2]].tolist()))  # fmt: skip
    for i, pose in enumerate(orbit(6)):
        clutter(pose, i).save(root / f"images/{i}.png")
        save_mask(root / f"masks/{i}{ending}", pose)
    check_cut_out(root)
    (root / f"masks/2{ending}").unlink()
    message = r"1 of 6 train views in .* have no mask \(the first is images/2\): add"
    with pytest.raises(InputError, match=message):
        read_capture(root)


@pytest.mark.parametrize(
    ("value", "message"),
    [("../x.png", "mask_path '../x.png' leads out of"), ("gone.png", "there is no mask .*gone")],
)
def test_masks_that_are_not_there(tmp_path: Path, value: str, message: str) -> None:
    root = captures.write_mad(tmp_path, 3, {"good": 1})
    content = json.loads((root / "transforms.json").read_text())
    content["frames"][0]["mask_path"] = value
    (root / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_capture(root)


def test_frames_without_files_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = captures.write_mad(tmp_path, 4, {"good": 1})
    (root / "train/good/1.png").unlink()
    views = read_capture(root).views
    assert [view.name for view in views] == [f"train/good/{i}" for i in (0, 2, 3)]
    poses = [orbit(4)[i] for i in (0, 2, 3)]
    for view, pose in zip(views, poses, strict=True):
        torch.testing.assert_close(view.camera.world_to_camera, pose, rtol=0, atol=1e-12)
    assert "1 of 4 frames have no image" in caplog.text
    for i in (0, 2, 3):
        (root / f"train/good/{i}.png").unlink()
    with pytest.raises(InputError, match=r"None of 4 frames has its image in .*restore"):
        read_capture(root)


def test_sizes_stay_with_their_frames_when_one_is_left_out(tmp_path: Path) -> None:
    root = captures.write_mad(tmp_path, 3, {"good": 1})
    for i in (1, 2):
        captures.ball_image(orbit(3)[i]).resize((SIZE * 2, SIZE * 2)).save(
            root / f"train/good/{i}.png"
        )
    (root / "train/good/0.png").unlink()
    assert {view.camera.width for view in read_capture(root).views} == {2 * SIZE}
