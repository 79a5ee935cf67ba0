"""The benchmark of the pose check: what it makes, and how it counts."""

from dataclasses import dataclass

import pytest
import torch
from pose_scenes import WHITE, lens, orbit
from torch import Tensor

from benchmarks.pose_check import MADE, Sample, make, measure, table
from scene import Camera


@dataclass
class Verdict:
    """What an inspector says about one picture."""

    world_to_camera: Tensor
    pose_ok: bool


class Oracle:
    """Stands for an inspector: gives prepared verdicts one after the other."""

    def __init__(self, verdicts: list[Verdict]) -> None:
        self.camera, self._verdicts = lens(), iter(verdicts)

    def locate(self, image: Tensor, camera: Camera) -> Verdict:
        return next(self._verdicts)


def test_verdicts_are_counted():
    first, second = (camera.world_to_camera for camera in orbit(5)[:2])
    blank = torch.ones(3, 8, 8)
    samples = [Sample(blank, first)] * 3 + [Sample(blank, None)] * 2
    verdicts = [
        Verdict(first, True),
        Verdict(first, False),  # a false alarm
        Verdict(second, True),  # a miss
        Verdict(first, True),  # a miss: there is no object
        Verdict(first, False),
    ]
    row = measure("mixed", Oracle(verdicts), iter(samples))  # type: ignore[arg-type]
    assert (row.images, row.right, row.flagged, row.wrongly_judged) == (5, 2, 2, 3)
    assert row.rotation_median == 0
    assert row.rotation_worst is not None
    assert row.rotation_worst > 1
    alone = measure("noise", Oracle(verdicts[3:]), iter(samples[3:]))  # type: ignore[arg-type]
    assert alone.rotation_median is None
    lines = table([row, alone]).splitlines()
    assert lines[2].startswith("| mixed | 5 | 2 | 2 | 3 | 0.000, worst")
    assert "| - | - |" in lines[3]


@pytest.mark.parametrize("kind", MADE)
def test_made_pictures_fit_the_camera(kind):
    camera = lens().resized(64, 48)
    image = make(kind, camera, WHITE, torch.Generator().manual_seed(0))
    assert image.shape == (3, 48, 64)
    assert 0 <= image.min() <= image.max() <= 1
    again = make(kind, camera, WHITE, torch.Generator().manual_seed(0))
    assert torch.equal(image, again)
    other = (image != 1).any(dim=0).float().mean()
    least, most = {"background only": (0, 0), "tiny object": (1e-3, 0.01),
                   "noise square": (0.2, 0.3), "half": (0.4, 0.6)}.get(kind, (0.9, 1))  # fmt: skip
    assert least <= other <= most
