"""The generator of captures, at a tiny size."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import SyntheticConfig, make_capture
from benchmarks.synthetic.builder import hole
from benchmarks.synthetic.cameras import ANGLE, noisy, opengl, query_pose, rotation, train_pose
from benchmarks.synthetic.defects import KINDS, VISIBLE, mask, visible_pixels
from benchmarks.synthetic.lights import Lamp, Rig, random_rig
from benchmarks.synthetic.objects import BLUEPRINTS, RADIUS, random_object
from benchmarks.synthetic.parts import Assembly, Material, Part, Placement
from benchmarks.synthetic.shading import Look, Picture, Studio, to_linear, to_srgb
from benchmarks.synthetic.shapes import Box, Cylinder, Ellipsoid, Shape, prism, wedge
from benchmarks.synthetic.tracing import pinhole, trace
from scene import InputError, read_capture, read_image, read_mask, true_poses

TINY = SyntheticConfig(out=Path(), seed=4, blueprint="animal", size=64, views=3, queries=1)
NO_QUERIES = {"test_poses.json", "test_meta.json", "synthetic.json"}
WHITE = Material((1.0, 1.0, 1.0))
BALL = Assembly((Part(Ellipsoid((0.6, 0.6, 0.6)), Placement(np.eye(3), np.zeros(3)), WHITE, 0),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny capture."""
    return make_capture(replace(TINY, out=tmp_path_factory.mktemp("captures") / "animal"))


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = make_capture(replace(TINY, out=tmp_path / "animal"))
    assert _files(again) == _files(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["animal"]  # nothing temporary is left


def test_another_seed_gives_another_object() -> None:
    one, other = (random_object(np.random.default_rng(seed)) for seed in (1, 2))
    assert [part.material for part in one.parts] != [part.material for part in other.parts]


def test_it_reads_as_a_capture(folder: Path) -> None:
    capture = read_capture(folder)
    assert len(capture.views) == 3
    assert {query.label for query in capture.queries} == {"good", *KINDS}
    assert capture.background == pytest.approx((1.0, 1.0, 1.0))
    assert set(true_poses(capture)) == {query.name for query in capture.queries}


def test_masks_lie_where_the_defective_picture_differs(folder: Path) -> None:
    capture = read_capture(folder)
    for query in capture.queries:
        if query.mask_path is None:
            continue
        marked = read_mask(query.mask_path).numpy()
        assert marked.any()
        pose = true_poses(capture)[query.name].numpy()
        good = _studio(_object("animal", TINY.seed)).picture(pose, ANGLE, TINY.size)
        shown = read_image(query.image_path).permute(1, 2, 0).numpy()
        difference = np.abs(shown - to_srgb(good.colours)).max(axis=2)
        visible = difference[marked] > VISIBLE - 1 / 255  # the file has 8 bits
        assert visible.mean() > 0.7  # the rest are gaps that were closed


def test_a_folder_that_is_there_is_left_alone(folder: Path) -> None:
    with pytest.raises(InputError, match="there already"):
        make_capture(replace(TINY, out=folder))


@pytest.mark.parametrize("change", [{"gloss": 2.0}, {"sensor_noise": -1.0}, {"views": 0}])
def test_settings_without_sense_are_refused(change: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        make_capture(replace(TINY, out=tmp_path / "x", **change))
    assert not list(tmp_path.iterdir())


def test_pose_noise_changes_the_written_train_poses_alone(folder: Path, tmp_path: Path) -> None:
    few = replace(TINY, out=tmp_path / "noisy", queries=0, pose_noise=(1.0, 0.02))
    clean, changed = _files(folder), _files(make_capture(few))
    different = {name for name in changed if clean[name] != changed[name]} - NO_QUERIES
    assert different == {"transforms.json"}


@pytest.mark.parametrize("blueprint", list(BLUEPRINTS))
@pytest.mark.parametrize("symmetric", [False, True])
def test_objects_fit_the_frame(blueprint: str, symmetric: bool) -> None:
    assembly = _object(blueprint, 3, symmetric)
    corners = np.concatenate([part.corners() for part in assembly.parts], axis=1)
    assert np.linalg.norm(corners, axis=0).max() == pytest.approx(RADIUS, abs=1e-6)
    assert len(assembly.groups) >= 10
    assert math.sin(0.5 * ANGLE) > RADIUS / 3.6


def test_a_symmetric_object_is_nearly_its_own_half_turn() -> None:
    assembly = _object("animal", 3, symmetric=True)
    first, second = np.split(np.arange(len(assembly.parts)), 2)
    turned = np.diag([-1.0, -1.0, 1.0])
    same = 0
    for a, b in zip(first, second, strict=True):
        one, other = assembly.parts[a], assembly.parts[b]
        assert other.place.centre == pytest.approx(turned @ one.place.centre, abs=1e-9)
        same += one.material.colour == other.material.colour
    assert 0 < len(first) - same < 0.2 * len(first) or same == len(first)


def test_cameras_see_the_origin_in_the_middle_and_upright() -> None:
    random = np.random.default_rng(0)
    for pose in (train_pose(5, 20, random), query_pose(random)):
        assert pose[:2, 3] == pytest.approx([0, 0], abs=1e-12)
        assert 3.6 <= pose[2, 3] <= 4.1
        assert pose[:3, :3] @ pose[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
        x, y, _ = pose[:3, 2]  # where up points in the picture
        assert abs(math.degrees(math.atan2(x, -y))) < 8.1


def test_noise_of_poses_has_the_size_that_was_asked_for() -> None:
    random = np.random.default_rng(0)
    pose = opengl(train_pose(2, 20, random))
    noise = [noisy(pose, random, 0.5, 0.01) for _ in range(300)]
    angles = [math.acos(min(1, (np.trace(pose[:3, :3].T @ n[:3, :3]) - 1) / 2)) for n in noise]
    assert math.degrees(np.sqrt(np.mean(np.square(angles)) / 3)) == pytest.approx(0.5, rel=0.1)
    shifts = np.array([n[:3, 3] - pose[:3, 3] for n in noise])
    assert shifts.std() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    "shape",
    [Box((0.5, 0.3, 0.2)), Cylinder(0.4, 0.3), Ellipsoid((0.5, 0.3, 0.4)), prism(6, 0.4, 0.2),
     wedge(0.5, 0.3, 0.4)],
)  # fmt: skip
def test_rays_enter_where_inside_begins(shape: Shape) -> None:
    """Walking along a ray in small steps finds the same interval as the formula."""
    random = np.random.default_rng(1)
    eye = random.normal(size=(3, 200))
    eye = (3 * eye / np.linalg.norm(eye, axis=0)).astype(np.float32)
    aim = (random.uniform(-0.4, 0.4, size=(3, 200)) - eye).astype(np.float32)
    near, far = shape.interval(eye, aim)
    met = near < far
    near, far, eye, aim = near[met], far[met], eye[:, met], aim[:, met]
    assert 20 < met.sum() < 200
    for share, inside in ((0.02, True), (0.98, True), (-0.02, False), (1.02, False)):
        at = eye + (near + share * (far - near)) * aim
        assert (_inside(shape, at) == inside).mean() > 0.99
    surface = eye + near * aim
    normals = shape.normal(surface)
    assert np.linalg.norm(normals, axis=0) == pytest.approx(1, abs=1e-4)
    assert ((normals * aim).sum(axis=0) < 0.2).all()


def _inside(shape: Shape, points: np.ndarray) -> np.ndarray:
    x, y, z = points
    if isinstance(shape, Box):
        return (np.abs(points) < shape.half[:, None]).all(axis=0)
    if isinstance(shape, Cylinder):
        return (np.hypot(x, y) < shape.radius) & (np.abs(z) < shape.height)
    if isinstance(shape, Ellipsoid):
        return ((points / shape.half[:, None]) ** 2).sum(axis=0) < 1
    planes = np.array(shape.normals) @ points - np.array(shape.offsets)[:, None]
    return (planes < 0).all(axis=0)


def test_a_hole_shows_what_is_behind() -> None:
    upright = np.eye(3)
    plate = Part(
        Box((1, 1, 0.1)), Placement(upright, np.zeros(3)), WHITE, 0, (hole((0, 0, 0), 0.3),)
    )
    behind = Part(Box((1, 1, 0.1)), Placement(upright, np.array([0, 0, 2.0])), WHITE, 1)
    pose = np.eye(4)
    pose[2, 3] = 4.0
    hits = trace([behind, plate], pinhole(pose, ANGLE, 31))
    assert hits.part[15, 15] == 0
    assert hits.depth[15, 15] == pytest.approx(5.9, abs=1e-4)
    assert hits.part[15, 7] == 1
    assert hits.depth[15, 7] == pytest.approx(3.9, abs=1e-4)
    assert (hits.cut >= 0).any()  # the wall of the hole


def test_lights_of_the_object_stay_with_it_and_those_of_the_camera_follow() -> None:
    """A ball is shaded alike from all sides only if the lights turn with the camera."""
    differences = {}
    for fixed in (False, True):
        rig = random_rig(np.random.default_rng(0), fixed)
        studio = Studio(BALL, Look(rig, fixed, 0.5, (1.0, 1.0, 1.0)))
        front, back = (studio.picture(_facing(side), ANGLE, 48).colours for side in (1, -1))
        differences[fixed] = np.abs(front - back).mean()
    assert differences[True] < 0.004
    assert differences[False] > 5 * differences[True]


def test_gloss_depends_on_the_view_and_matte_does_not() -> None:
    """A point of the surface, seen from two sides: of one colour only when matte."""
    colours = {}
    for gloss in (0.0, 1.0):
        lamp = Lamp(np.array([1.0, 0.0, 0.0]), np.full(3, 0.5))
        rig = Rig((lamp,), np.array([0.0, 0.0, 1.0]))
        studio = Studio(BALL, Look(rig, False, gloss, (0.0, 0.0, 0.0)))
        seen = [_colour_at(studio, rotation(np.array([0.0, 0.0, turn]))) for turn in (0.0, 0.4)]
        colours[gloss] = float(np.abs(seen[0] - seen[1]).mean())
    assert colours[0.0] < 0.01
    assert colours[1.0] > 2 * colours[0.0]


def _colour_at(studio: Studio, turn: np.ndarray) -> np.ndarray:
    """The ball's colour around its point towards +x, from a camera turned about z."""
    pose = _facing(1)
    pose[:3, :3] = pose[:3, :3] @ turn.T
    picture: Picture = studio.picture(pose, ANGLE, 200)
    x, y, _ = picture.rays.project(np.array([[0.6], [0.0], [0.0]]))
    column = int((float(x[0]) / math.tan(0.5 * ANGLE) + 1) * 100)
    row = int((float(y[0]) / math.tan(0.5 * ANGLE) + 1) * 100)
    return picture.colours[row - 2 : row + 3, column - 2 : column + 3].mean(axis=(0, 1))


@pytest.fixture(scope="module")
def pump() -> Studio:
    """An object under its lights."""
    return _studio(_object("pump", 6))


@pytest.mark.parametrize("kind", list(KINDS))
def test_defects_change_the_picture_where_the_mask_says(kind: str, pump: Studio) -> None:
    studio, random = pump, np.random.default_rng(2)
    assembly, pose = pump.assembly, query_pose(random)
    good = studio.picture(pose, ANGLE, 96)
    for _ in range(20):
        defect = KINDS[kind](assembly, good, random)
        bad = studio.changed(defect.assembly).picture(pose, ANGLE, 96)
        marked = mask(good, bad, defect.assembly)
        if marked.sum() >= 2:
            break
    difference = np.abs(to_srgb(good.colours) - to_srgb(bad.colours)).max(axis=2)
    assert marked.sum() >= 2
    assert (difference[marked] > VISIBLE).mean() > 0.7  # the rest are gaps that were closed
    assert (difference > VISIBLE).sum() < 2 * marked.sum() + 100  # the rest is shadows


def test_sprinkles_do_not_count_as_visible(pump: Studio) -> None:
    good = pump.picture(query_pose(np.random.default_rng(2)), ANGLE, 32)
    patch, sprinkled = (replace(good, colours=good.colours.copy()) for _ in range(2))
    patch.colours[8:12, 8:12] = 0.0
    sprinkled.colours[4:28:8, 4:28:8] *= 0.85
    marks = [(bad.colours != good.colours).any(axis=2) for bad in (patch, sprinkled)]
    assert visible_pixels(good, patch, marks[0]) == 16
    assert marks[1].sum() >= 9
    assert visible_pixels(good, sprinkled, marks[1]) == 0


def test_srgb_goes_there_and_back() -> None:
    values = np.linspace(0, 1, 50, dtype=np.float32)
    assert to_srgb(to_linear(values)) == pytest.approx(values, abs=1e-5)


def _object(blueprint: str, seed: int, symmetric: bool = False) -> Assembly:
    return random_object(np.random.default_rng([seed, 0]), blueprint, symmetric)  # type: ignore[arg-type]


def _studio(assembly: Assembly) -> Studio:
    rig = random_rig(np.random.default_rng([TINY.seed, 1]), False)
    return Studio(assembly, Look(rig, False, TINY.gloss, (1.0, 1.0, 1.0)))


def _facing(side: int) -> np.ndarray:
    """World-to-camera of a camera on the x axis, 3.8 units away, z upwards."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, side, 0], [0, 0, -1], [-side, 0, 0]], np.float64)
    pose[:3, 3] = [0, 0, 3.8]
    return pose
