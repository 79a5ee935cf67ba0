"""The focal length of the queries' camera, fitted with their poses."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from pose_scenes import lens, orbit, picture, tiny_model, tiny_object
from test_query_camera import save
from torch import Tensor

from pipeline.focal import fit_focal
from pipeline.inspector import Inspector
from pose_estimation import Hypothesis, PoseSettings
from scene import Camera, InputError, World

VIEWS = orbit(12, distance=2.6)[2:5]


@dataclass
class Sizes:
    """A matcher that knows the direction, and tells the distance from how large the object is."""

    focal: float  # true, of 64 pixels
    images: list[Tensor]
    name: str = "sizes"

    def coarse_poses_many(self, images: Tensor, camera: Camera) -> list[list[Hypothesis]]:
        found = []
        for image in images:
            number = min(range(3), key=lambda n: float((self.images[n] - image).abs().mean()))
            pose = VIEWS[number].world_to_camera.clone()
            pose[2, 3] *= 1.02 * camera.fx / self.focal
            found.append([Hypothesis(pose, 1.0)])
        return found


def inspector(focal: float, folder: Path) -> tuple[Inspector, list[Path]]:
    """An inspector, and three queries by a camera of that focal length."""
    paths, images = [], []
    for number, view in enumerate(VIEWS):
        images.append(picture(tiny_object(), replace(view, fx=focal, fy=focal)))
        paths.append(save(folder / f"{number}.png", images[-1]))
    return Inspector(
        "tiny", tiny_model(), lens(), World(), Sizes(focal, images), PoseSettings(method="lm"),
        None, is_plain=True,  # type: ignore[arg-type]
    ), paths  # fmt: skip


def test_the_perspective_tells_the_focal_length(tmp_path: Path) -> None:
    times = 0.8
    own = fit_focal(*inspector(times * lens().fx, tmp_path))
    assert own.size == (64, 64)
    assert own.lens.focal[0] * 64 == pytest.approx(times * lens().fx, rel=0.04)
    assert own.source == "a fit to 3 of the images"


def test_too_few_queries_are_refused(tmp_path: Path) -> None:
    opened, paths = inspector(lens().fx, tmp_path)
    with pytest.raises(InputError, match=r"found in 2 images.* name a camera file"):
        fit_focal(opened, paths[:2])


def test_queries_that_cannot_be_read_tell_nothing(tmp_path: Path) -> None:
    opened, paths = inspector(lens().fx, tmp_path)
    torch.save({}, tmp_path / "broken.png")
    with pytest.raises(InputError, match="train views: none; at least"):
        fit_focal(opened, [tmp_path / "broken.png"] * len(paths))
