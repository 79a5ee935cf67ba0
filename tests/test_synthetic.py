"""The generator of captures, at a tiny size."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.synthetic import SyntheticConfig, make_capture
from benchmarks.synthetic.builder import hole
from benchmarks.synthetic.cameras import ANGLE, Pose, noisy, opengl, rotation
from benchmarks.synthetic.colours import to_linear, to_srgb
from benchmarks.synthetic.defects import KINDS, VISIBLE, mask, visible_pixels
from benchmarks.synthetic.lens import Lens
from benchmarks.synthetic.lights import Lamp, Lights, random_lights
from benchmarks.synthetic.objects import BLUEPRINTS, RADIUS, random_object
from benchmarks.synthetic.overview import write_overview
from benchmarks.synthetic.parts import Assembly, Material, Part, Placement
from benchmarks.synthetic.rigs import ABOVE, Rig, query_pose, train_pose
from benchmarks.synthetic.shading import Appearance, Rendering, Studio
from benchmarks.synthetic.shapes import Box, Cylinder, Ellipsoid, Shape, prism, wedge
from benchmarks.synthetic.tracing import pinhole, trace
from scene import InputError, read_capture, read_image, read_json, read_mask, true_poses

TINY = SyntheticConfig(
    out=Path(), seed=4, blueprint="animal", size=64, views=3, queries=1, workers=1
)
NO_QUERIES = {"test_poses.json", "test_meta.json", "synthetic.json", "overview.jpg"}
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
        good = _studio(_object("animal", TINY.seed)).render(pose, ANGLE, TINY.size)
        shown = read_image(query.image_path).permute(1, 2, 0).numpy()
        difference = np.abs(shown - to_srgb(good.colours)).max(axis=2)
        visible = difference[marked] > VISIBLE - 1 / 255  # the file has 8 bits
        assert visible.mean() > 0.7  # the rest are gaps that were closed


def test_a_folder_that_is_there_is_left_alone(folder: Path) -> None:
    with pytest.raises(InputError, match="there already"):
        make_capture(replace(TINY, out=folder))


def test_the_number_of_processes_changes_nothing(folder: Path, tmp_path: Path) -> None:
    two = _files(make_capture(replace(TINY, out=tmp_path / "animal", queries=0, workers=2)))
    one = _files(folder)
    assert {name for name in two if one[name] != two[name]} <= NO_QUERIES
    assert sum(name.startswith("train/") for name in two) == 3


@pytest.mark.parametrize(
    "change",
    [{"gloss": 2.0}, {"sensor_noise": -1.0}, {"views": 0}, {"surroundings": "room"},
     {"query_focal": 0.0}, {"query_distortion": (-3.0, 0.0)}],
)  # fmt: skip
def test_settings_without_sense_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
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
    few = {"lamp": 7, "bracket": 3, "nut": 1}  # plain on purpose
    assert len(assembly.groups) >= few.get(blueprint, 10)
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
        x, y, _ = pose[:3, 2]  # where up points in the image
        assert abs(math.degrees(math.atan2(x, -y))) < 8.1


def test_noise_of_poses_has_the_size_that_was_asked_for() -> None:
    random = np.random.default_rng(0)
    pose = opengl(train_pose(2, 20, random))
    noise = [noisy(pose, random, 0.5, 0.01) for _ in range(300)]
    angles = [math.acos(min(1, (np.trace(pose[:3, :3].T @ n[:3, :3]) - 1) / 2)) for n in noise]
    assert math.degrees(np.sqrt(np.mean(np.square(angles)) / 3)) == pytest.approx(0.5, rel=0.1)
    shifts = np.array([n[:3, 3] - pose[:3, 3] for n in noise])
    assert shifts.std() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("rig", ["sphere", "random", "circles", "gap", "upper", "turntable"])
def test_rigs_stand_where_they_say(rig: Rig) -> None:
    random = np.random.default_rng(0)
    poses = [train_pose(i, 60, random, rig) for i in range(60)]
    asked = [query_pose(random, rig) for _ in range(30)]
    train, queries = (np.array([_direction(pose) for pose in many]) for many in (poses, asked))
    nearest = np.degrees(np.arccos(np.clip(train @ train.T - 2 * np.eye(60), -1, 1)).min(axis=1))
    assert nearest.min() > (0.2 if rig == "random" else 5)  # no view twice
    if rig in ABOVE:
        assert min(train[:, 2].min(), queries[:, 2].min()) > 0.2
        assert queries[:, 2].min() >= train[:, 2].min() - 1e-6
    else:
        assert train[:, 2].min() < -0.8
    if rig == "gap":
        assert train[:, 0].max() < 0.51
        assert queries[:, 0].max() > 0.8
    if rig == "circles":
        assert len(np.unique(train[:, 2].round(6))) == 6
    if rig == "turntable":
        assert np.ptp(np.array(poses)[:, 2, 3]) < 1e-9
        assert np.ptp(train[:, 2]) < 1e-9


def _direction(world_to_camera: Pose) -> np.ndarray:
    centre = -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]
    return centre / np.linalg.norm(centre)


@pytest.mark.parametrize("lens", [Lens(), Lens(1.3), Lens(0.8, -0.3, 0.05), Lens(1.0, 0.15, 0.0)])
def test_points_are_seen_where_the_true_pose_and_lens_project_them(lens: Lens) -> None:
    """Small balls at known places, found again as blobs."""
    size, pose = 160, train_pose(3, 20, np.random.default_rng(1))
    camera = lens.intrinsics(size)
    for at in ([0.5, 0.2, -0.4], [-0.6, 0.5, 0.3], [0.1, -0.7, 0.5]):
        place = Placement(np.eye(3), np.array(at))
        ball = Assembly((Part(Ellipsoid((0.05, 0.05, 0.05)), place, WHITE, 0),))
        lights = random_lights(np.random.default_rng(0), False)
        studio = Studio(ball, Appearance(lights, False, 0.0, (0.0, 0.0, 0.0)))
        alpha = lens.image(studio.render(pose, lens.angle, lens.rendered_size(size)).alpha, size)
        rows, columns = np.mgrid[:size, :size] + 0.5
        found = [(grid * alpha).sum() / alpha.sum() for grid in (columns, rows)]
        x, y, z = pose[:3, :3] @ at + pose[:3, 3]
        squared = (x / z) ** 2 + (y / z) ** 2
        factor = 1 + camera["k1"] * squared + camera["k2"] * squared**2
        wanted = [camera["fl_x"] * c / z * factor + camera["cx"] for c in (x, y)]
        assert found == pytest.approx(wanted, abs=0.25)


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
        lights = random_lights(np.random.default_rng(0), fixed)
        studio = Studio(BALL, Appearance(lights, fixed, 0.5, (1.0, 1.0, 1.0)))
        front, back = (studio.render(_facing(side), ANGLE, 48).colours for side in (1, -1))
        differences[fixed] = np.abs(front - back).mean()
    assert differences[True] < 0.004
    assert differences[False] > 5 * differences[True]


def test_gloss_depends_on_the_view_and_matte_does_not() -> None:
    """A point of the surface, seen from two sides: of one colour only when matte."""
    colours = {}
    for gloss in (0.0, 1.0):
        lamp = Lamp(np.array([1.0, 0.0, 0.0]), np.full(3, 0.5))
        lights = Lights((lamp,), np.array([0.0, 0.0, 1.0]))
        studio = Studio(BALL, Appearance(lights, False, gloss, (0.0, 0.0, 0.0)))
        seen = [_colour_at(studio, rotation(np.array([0.0, 0.0, turn]))) for turn in (0.0, 0.4)]
        colours[gloss] = float(np.abs(seen[0] - seen[1]).mean())
    assert colours[0.0] < 0.01
    assert colours[1.0] > 2 * colours[0.0]


def _colour_at(studio: Studio, turn: np.ndarray) -> np.ndarray:
    """The ball's colour around its point towards +x, from a camera turned about z."""
    pose = _facing(1)
    pose[:3, :3] = pose[:3, :3] @ turn.T
    rendering: Rendering = studio.render(pose, ANGLE, 200)
    x, y, _ = rendering.rays.project(np.array([[0.6], [0.0], [0.0]]))
    column = int((float(x[0]) / math.tan(0.5 * ANGLE) + 1) * 100)
    row = int((float(y[0]) / math.tan(0.5 * ANGLE) + 1) * 100)
    return rendering.colours[row - 2 : row + 3, column - 2 : column + 3].mean(axis=(0, 1))


@pytest.fixture(scope="module")
def pump() -> Studio:
    """An object under its lights."""
    return _studio(_object("pump", 6))


@pytest.mark.parametrize("kind", list(KINDS))
def test_defects_change_the_picture_where_the_mask_says(kind: str, pump: Studio) -> None:
    studio, random = pump, np.random.default_rng(2)
    assembly, pose = pump.assembly, query_pose(random)
    good = studio.render(pose, ANGLE, 96)
    for _ in range(20):
        defect = KINDS[kind](assembly, good, random)
        bad = studio.changed(defect.assembly).render(pose, ANGLE, 96)
        marked = mask(good, bad, defect.assembly)
        if marked.sum() >= 2:
            break
    difference = np.abs(to_srgb(good.colours) - to_srgb(bad.colours)).max(axis=2)
    assert marked.sum() >= 2
    assert (difference[marked] > VISIBLE).mean() > 0.7  # the rest are gaps that were closed
    assert (difference > VISIBLE).sum() < 2 * marked.sum() + 100  # the rest is shadows


@pytest.mark.parametrize("blueprint", list(BLUEPRINTS))
def test_every_kind_of_object_can_be_stained_where_it_is_seen(blueprint: str) -> None:
    studio, random = _studio(_object(blueprint, 2)), np.random.default_rng(0)
    pose = query_pose(random)
    good = studio.render(pose, ANGLE, 64)
    for _ in range(20):
        defect = KINDS["Stains"](studio.assembly, good, random)
        bad = studio.changed(defect.assembly).render(pose, ANGLE, 64)
        marked = mask(good, bad, defect.assembly)
        if marked.any():
            break
    assert marked.any()
    assert (good.alpha[marked] > 0).all()


def test_stains_on_black_and_white_are_faint() -> None:
    for blueprint in ("remote", "charger"):
        studio, random = _studio(_object(blueprint, 2)), np.random.default_rng(3)
        rendering = studio.render(query_pose(random), ANGLE, 48)
        for _ in range(5):
            defect = KINDS["Stains"](studio.assembly, rendering, random)
            (stain,) = defect.assembly.stains
            assert np.ptp(stain.colour) < 0.25
            assert (max(stain.colour) < 0.5) == (blueprint == "remote")


def test_metal_mirrors_in_its_own_colour() -> None:
    """A ball of brass under white light: a highlight of brass, not of white."""
    colours = {}
    for metal in (False, True):
        material = Material((0.86, 0.60, 0.30), metal=metal)
        lights = Lights((Lamp(np.array([1.0, 0, 0]), np.full(3, 0.5)),), np.array([0.0, 0, 1]))
        ball = Assembly((replace(BALL.parts[0], material=material),))
        studio = Studio(ball, Appearance(lights, False, 1.0, (0.0, 0.0, 0.0)))
        shown = studio.render(_facing(1), ANGLE, 64).colours
        brightest = shown.reshape(-1, 3)[shown.sum(axis=2).argmax()]
        colours[metal] = float(brightest[2] / brightest[0])
    red, _, blue = to_linear(np.array((0.86, 0.60, 0.30), np.float32))
    assert colours[True] == pytest.approx(float(blue / red), rel=0.1)
    assert colours[False] > 2 * colours[True]


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A turntable in a room, two views of every object, masks."""
    out = tmp_path_factory.mktemp("captures") / "turned"
    return make_capture(
        replace(TINY, out=out, rig="turntable", surroundings="room", masks=True, views_per_defect=2)
    )


def test_only_the_object_moves_on_a_turntable(turned: Path) -> None:
    empty = read_image(turned / "empty.png")
    for index in range(3):
        shown = read_image(turned / "train" / "good" / f"{index}.png")
        alpha = read_image(turned / "masks" / "train" / "good" / f"{index}.png").mean(dim=0)
        difference = (shown - empty).abs().amax(dim=0)
        assert (difference[alpha > 0.99] > 0.02).float().mean() > 0.7
        assert (difference[alpha == 0] > 0.02).float().mean() < 0.25  # its shadow
        assert 0.05 < alpha.mean() < 0.5


def test_all_views_of_a_defective_object_show_its_defect(turned: Path) -> None:
    capture = read_capture(turned)
    names = [query.name for query in capture.queries]
    assert sorted(names) == sorted(f"{k}/0_{view}" for k in ("good", *KINDS) for view in (0, 1))
    meta = read_json(turned / "test_meta.json")
    for query in capture.queries:
        if query.mask_path is not None:
            assert read_mask(query.mask_path).any()
            assert meta[query.name]["object"] == 0
    for kind in KINDS:
        first, second = (meta[f"{kind}/0_{view}"] for view in (0, 1))
        assert first.get("at") == second.get("at")
        assert first["c2w"] != second["c2w"]


def test_rooms_differ_by_their_seed_and_the_object_stays(tmp_path: Path) -> None:
    rooms = []
    for seed in (1, 2):
        asked = replace(
            TINY, out=tmp_path / str(seed), views=1, queries=0, rig="upper", masks=True,
            surroundings="room", room_seed=seed,
        )  # fmt: skip
        rooms.append(make_capture(asked))
    masks, shown = (
        [read_image(room / kind / "train" / "good" / "0.png") for room in rooms]
        for kind in ("masks", ".")
    )
    assert (masks[0] == masks[1]).all()
    outside = masks[0].mean(dim=0) == 0
    assert ((shown[0] - shown[1]).abs().amax(dim=0)[outside] > 0.05).float().mean() > 0.5


def test_a_sheet_of_paper_is_uneven_and_takes_shadows(tmp_path: Path) -> None:
    asked = replace(
        TINY, out=tmp_path / "x", views=1, queries=0, rig="upper", surroundings="uneven", masks=True
    )
    folder = make_capture(asked)
    shown = read_image(folder / "train" / "good" / "0.png").mean(dim=0)
    around = shown[read_image(folder / "masks" / "train" / "good" / "0.png").mean(dim=0) == 0]
    assert 0.01 < around.std() < 0.2
    assert around.median() > 0.6


def test_alpha_is_the_share_of_a_pixel_that_the_object_covers(folder: Path) -> None:
    lights = random_lights(np.random.default_rng(0), False)
    white, black = (
        Studio(_object("rack", 1), Appearance(lights, False, 0.0, (c, c, c))).render(
            train_pose(2, 20, np.random.default_rng(0)), ANGLE, 64
        )
        for c in (1.0, 0.0)
    )
    shown_through = (white.colours - black.colours)[..., 0]
    assert white.alpha == pytest.approx(1 - shown_through, abs=1e-5)
    assert 0.02 < white.alpha.mean() < 0.5


def test_the_sheet_has_a_row_for_each_capture(folder: Path, turned: Path, tmp_path: Path) -> None:
    write_overview([folder, turned], tmp_path / "sheet.jpg")
    assert read_image(tmp_path / "sheet.jpg").shape == (3, 400, 1200)


def test_sprinkles_do_not_count_as_visible(pump: Studio) -> None:
    good = pump.render(query_pose(np.random.default_rng(2)), ANGLE, 32)
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
    lights = random_lights(np.random.default_rng([TINY.seed, 1]), False)
    return Studio(assembly, Appearance(lights, False, TINY.gloss, (1.0, 1.0, 1.0)))


def _facing(side: int) -> np.ndarray:
    """World-to-camera of a camera on the x axis, 3.8 units away, z upwards."""
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, side, 0], [0, 0, -1], [-side, 0, 0]], np.float64)
    pose[:3, 3] = [0, 0, 3.8]
    return pose
