"""A background that stands still while the object turns before it is told from one that moves."""

import numpy as np
import pytest
import torch
from test_scene_triangulate import photograph, views
from torch import Tensor

from scene import Camera, InputError
from scene.standing import refuse_standing_background, standing_share

SIZE = 200


def noise(seed: int, strength: float) -> Tensor:
    """Sensor noise, [3, H, W] in units of 1/255."""
    generator = torch.Generator().manual_seed(seed)
    return strength * torch.randn(3, SIZE, SIZE, generator=generator)


def wall() -> Tensor:
    """A creased sheet: faint texture, uint8 [3, H, W]."""
    random = np.random.default_rng(5)
    creases = torch.from_numpy(random.normal(0, 1, (1, 1, 50, 50))).float()
    fine = torch.nn.functional.interpolate(creases, (SIZE, SIZE), mode="bicubic")[0]
    return (150 + 12 * fine).expand(3, -1, -1)


def turned(behind: Tensor, strength: float = 2.0) -> tuple[list[Camera], list[Tensor]]:
    """The board of the triangulation's tests, turned before what stands behind."""
    cameras, images = views()
    shown = []
    for number, image in enumerate(images):
        mask = photograph(cameras[number], np.full((512, 512, 3), 255, np.uint8))[0] == 255
        mixed = torch.where(mask, image.float(), behind) + noise(number, strength)
        shown.append(mixed.round().clamp(0, 255).to(torch.uint8))
    return cameras, shown


def test_a_fixed_background_is_refused_with_the_true_reason() -> None:
    cameras, images = turned(wall())
    assert 0.15 < standing_share(cameras, images) < 0.9
    with pytest.raises(InputError, match=r"of the image stands still in all train views while the"):
        refuse_standing_background(cameras, images)


def test_what_moves_or_has_no_texture_is_not() -> None:
    cameras, images = turned(torch.full((3, SIZE, SIZE), 150.0))
    assert standing_share(cameras, images) < 0.01
    x = torch.linspace(0, 100, SIZE).expand(3, SIZE, SIZE)  # light that falls off
    assert standing_share(*turned(100 + x, 0.0)) < 0.05
    moving = [image.roll(23 * number, 2) for number, image in enumerate(turned(wall())[1])]
    assert standing_share(cameras, moving) < 0.01
    refuse_standing_background(cameras, moving)


def test_a_camera_that_never_moves_says_nothing() -> None:
    cameras, images = turned(wall())
    assert standing_share(cameras[:1] * len(images), images) == 0.0
    assert standing_share(cameras[:3], images[:3]) == 0.0
    assert standing_share([], []) == 0.0
