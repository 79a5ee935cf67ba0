"""What a place mirrors: directions, the table over the sphere, normals, and their use."""

import math

import pytest
import torch

from anomaly.normal_model import PlaceMoments
from anomaly.normals import gaussian_normals
from anomaly.specular import COLUMNS, ROWS, SpecularStatistics, cells, centres, reflected
from gaussian_renderer import ObjectRenderer
from scene import Camera, Gaussians


def test_a_mirror_turns_the_line_of_sight_about_its_normal():
    eye = torch.tensor([0.0, 0.0, 2.0])
    positions = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    found = reflected(positions, normals, eye)
    half = math.sqrt(0.5)
    assert torch.allclose(found, torch.tensor([[0.0, 0.0, 1.0], [half, 0.0, half]]), atol=1e-6)


def test_every_cell_holds_its_own_centre():
    assert torch.equal(cells(centres()), torch.arange(ROWS * COLUMNS))
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, -1e-9, 0.0]])
    assert ((cells(poles) >= 0) & (cells(poles) < ROWS * COLUMNS)).all()


def test_the_table_finds_a_lamp_and_is_usual_elsewhere():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(60_000, 3, generator=generator), dim=1)
    lamp = torch.tensor([0.6, 0.0, 0.8])
    near = (directions @ lamp).acos() < math.radians(8)
    ratios = torch.where(near, 9.0, 1.0)
    statistics = SpecularStatistics()
    for part in range(2):
        statistics.add(directions[part::2], ratios[part::2], torch.ones(30_000))
    table = statistics.table()
    away = (centres() @ lamp).acos()
    assert table[away < math.radians(3)].min() > 6.0
    assert (table[away > math.radians(25)] - 1.0).abs().max() < 0.05


def test_nothing_seen_changes_nothing():
    assert torch.equal(SpecularStatistics().table(), torch.ones(ROWS * COLUMNS))
    seen = SpecularStatistics()
    seen.add(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([5.0]), torch.tensor([1e-3]))
    assert torch.allclose(seen.table(), torch.ones(ROWS * COLUMNS))  # too little to be believed


def wall(count=15):
    """Flat, opaque Gaussians that fill the plane z = 0, and two cameras before it."""
    grid = torch.linspace(-1.0, 1.0, count)
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    means = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
    size = len(means)
    gaussians = Gaussians(
        means=means,
        log_scales=torch.tensor([0.12, 0.12, 0.001]).log().expand(size, 3).contiguous(),
        quaternions=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(size, 4).contiguous(),
        opacity_logits=torch.full((size,), 4.0),
        sh=torch.zeros(size, 1, 3),
    )
    return ObjectRenderer(gaussians, torch.zeros(3)), [camera(0.0), camera(0.3)]


def camera(turn, size=48):
    """Three units before the wall, turned about the wall's y axis."""
    cosine, sine = math.cos(turn), math.sin(turn)
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = torch.tensor([[cosine, 0, sine], [0, -1, 0], [sine, 0, -cosine]])
    view[2, 3] = 3.0
    return Camera(view, 60.0, 60.0, size / 2, size / 2, size, size)


def test_normals_of_a_wall():
    model, cameras = wall()
    normals = gaussian_normals(model, cameras)
    inside = model.gaussians.means[:, :2].abs().amax(dim=1) < 0.5
    assert inside.any()
    assert (normals[inside, 2] > 0.99).all()
    lengths = normals.norm(dim=1)
    assert ((lengths - 1.0).abs().minimum(lengths) < 1e-5).all()  # unit, or zero where unknown


@pytest.mark.parametrize("frame", ["object", "camera"])
def test_a_place_that_mirrors_a_lamp_may_differ_more(frame):
    model, cameras = wall()
    count = len(model.gaussians)
    normals = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3).clone()
    normals[0] = 0.0
    table = torch.full((ROWS * COLUMNS,), 4.0)
    place = PlaceMoments(torch.rand(count, 6), normals, {"object": table, "camera": table})
    assert torch.equal(place.at(model, cameras[0], "none"), place.common)
    raised = place.at(model, cameras[0], frame)
    assert torch.equal(raised[0], place.common[0])  # no normal, no mirror
    assert torch.allclose(raised[1:], 4.0 * place.common[1:])
