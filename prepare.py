"""From photographs of an object, or a video, to a capture that train.py takes.

    python prepare.py photos/mug -o captures/mug          then: python train.py -s captures/mug
    python prepare.py mug.mp4 -o captures/mug --scale 95  its longest side is 95 (mm, say)
    python prepare.py --board board.pdf                   a board to print and to put under it

Poses by pycolmap (pip install 'pycolmap>=4.1.1,<5'), lens distortion undone, the object found
without networks. A killed run goes on where it was: give the same command again.
"""

import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from gaussian_renderer import ObjectRenderer, choose_device
from pipeline.command_line import run, settle_threads
from pipeline.model_folder import ModelFolder
from pipeline.presets import TRAINING
from pipeline.training import Training
from preparation import backdrop, isolate, sfm
from preparation.board import find_board, write_board
from preparation.coverage import Coverage, coverage
from preparation.geometry import Array, Plane, Similarity, ground_plane, upright
from preparation.isolate import Box
from preparation.overview import Tile, tile_of, write_overview
from preparation.photographs import (
    BLURRED,
    Cameras,
    Photograph,
    as_json,
    import_photographs,
    read_rgb,
)
from preparation.stages import Stages, load_sparse, save_sparse
from preparation.undistort import Pinhole, pinhole_of
from scene import (
    Camera,
    Capture,
    Gaussians,
    InputError,
    TrainImages,
    View,
    atomic_write,
    common_point,
    folder_lock,
    load_ply,
    refuse_inside,
    save_ply,
    visual_hull,
    write_json,
)
from scene.capture import PointCloud
from train import optimise

_DISTANCE = 4.0  # units from the cameras to what they look at, in the frame that is worked in
_SMALL = 240  # pixels of the longer side, of the images of the short model
_ITERATIONS, _GAUSSIANS, _POINTS = 900, 25_000, 15_000  # of the short model
_LOWEST_SHARE = 0.5  # of the photographs that must find a place
_PLANE_TOLERANCE = 0.01  # of the sphere's radius
_PLANE_RADIUS = 1.6  # times the sphere's radius, within which points of the ground are looked for
_EMPTY_MASK = 0.002  # of a photograph


@dataclass(frozen=True)
class PrepareConfig:
    """What is prepared, and how."""

    source: tyro.conf.Positional[Path | None] = None
    """Folder of photographs (60 to 120, all around the object), or a video."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to write the capture to; default: captures/<name of the source>."""
    board: Path | None = None
    """Write the board to print to this PDF, and do nothing else."""
    cameras: Cameras = "one"
    """`per-folder`: each folder of photographs was taken by a camera of its own."""
    masks: Path | None = None
    """Masks, white on the object: NAME.png or NAME.jpg.png; RGBA photographs need none."""
    scale: float | None = None
    """Length of the object's longest side, in the unit that you want; a board needs none."""
    keep_box: Box | None = None
    """Lowest x, y, z and highest x, y, z, in the capture's unit: what lies outside goes."""
    cut: Box | None = None
    """Likewise: what lies inside goes, such as a stand."""
    frames: int = 100
    """Frames to take from a video."""
    threads: int | None = None
    """CPU threads; default: all cores."""
    overwrite: bool = False
    """Begin again."""

    @property
    def folder(self) -> Path:
        """The capture's folder."""
        name = self.source.resolve().stem if self.source else ""
        return self.out or Path("captures") / name


@dataclass(frozen=True)
class Posed:
    """Photographs that have a place, undistorted, in the frame that is worked in."""

    names: tuple[str, ...]
    cameras: tuple[Camera, ...]
    pinholes: tuple[Pinhole, ...]
    paths: tuple[Path, ...]  # of the undistorted photographs
    focus: Array  # [3], what the cameras look at
    radius: float  # of the sphere that they show
    points: Array  # [M, 3]
    colours: NDArray[np.uint8]  # [M, 3]

    @property
    def centres(self) -> Array:
        """Of the cameras, [V, 3]."""
        return np.stack([camera.centre.numpy() for camera in self.cameras])


def prepare(config: PrepareConfig) -> Path:
    """Makes a capture of photographs, and returns its folder (or the board's file).

    Raises InputError for anything that the user can fix.
    """
    if config.board is not None:
        write_board(config.board)
        print(f"{config.board}: print it at 100 %")
        return config.board
    _check(config)
    assert config.source is not None
    sfm.require_pycolmap()
    source, out = config.source.expanduser(), config.folder
    refuse_inside(out, source, "-o")
    threads = settle_threads(config.threads)
    with folder_lock(out, "-o"):
        work = out / ".work"
        if config.overwrite:
            shutil.rmtree(work, ignore_errors=True)
        stages = Stages(work)
        photographs = _photographs(config, source, stages)
        turning = _foreground(photographs, stages)
        model = _poses(photographs, source, stages, turning, threads)
        posed = _undistorted(photographs, model, stages)
        masks = _given_masks(config, photographs, posed, stages)
        _write(config, photographs, model, posed, stages, masks, turning, threads)
    print(f"capture: {out}  (look at {out / 'overview.jpg'}; then python train.py -s {out})")
    return out


def _photographs(config: PrepareConfig, source: Path, stages: Stages) -> list[Photograph]:
    """Stage 1: upright working copies."""
    files = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
    state = sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)

    def work() -> dict[str, Any]:
        shutil.rmtree(stages.work, ignore_errors=True)
        found = import_photographs(source, stages.work, config.cameras, config.frames)
        return {"photographs": as_json(found)}

    settings = [state, config.cameras, config.frames]
    stored = stages.run("photographs", settings, work)["photographs"]
    return [Photograph(**values) for values in stored]


def _foreground(photographs: list[Photograph], stages: Stages) -> bool:
    """Stage 2: whether the object turns before a fixed camera; then, its rough masks."""
    folder = stages.work / "photographs"

    def work() -> dict[str, Any]:
        cameras = {one.camera for one in photographs}
        if len(cameras) > 1:
            return {"turning": False}
        step = max(1, len(photographs) // 60)
        sample = [read_rgb(folder / one.file) for one in photographs[::step]]
        background = backdrop.still_background(sample)
        if background is None:
            return {"turning": False}
        print("the camera stands still and the object turns: what stands still is masked")
        images = [read_rgb(folder / one.file) for one in photographs]
        masks = backdrop.foreground_masks(images, background, "what turns")
        for one, mask in zip(photographs, masks, strict=True):
            _save(stages.work / "foreground" / f"{one.name}.png", mask)
            wide = backdrop.widened(mask)
            _save(stages.work / "colmap_masks" / f"{one.file}.png", wide)
        return {"turning": True}

    return bool(stages.run("background", [], work)["turning"])


def _poses(
    photographs: list[Photograph], source: Path, stages: Stages, turning: bool, threads: int
) -> sfm.SparseModel:
    """Stage 3: where the photographs were taken."""
    points = stages.work / "points.npz"

    def work() -> dict[str, Any]:
        model = sfm.reconstruct(
            photographs, stages.work / "photographs", stages.work / "colmap",
            stages.work / "colmap_masks" if turning else None, source.is_file(), threads,
        )  # fmt: skip
        return save_sparse(model, points)

    model = load_sparse(stages.run("poses", [], work), points)
    count = len(model.poses)
    if count < max(3, _LOWEST_SHARE * len(photographs)):
        raise InputError(
            f"Only {count} of {len(photographs)} photographs overlap enough to be joined: let "
            "neighbours share 60 to 80 % of what they show, and put the object on textured ground "
            "(prepare.py --board board.pdf prints one)."
        )
    print(
        f"{count} of {len(photographs)} photographs placed, median error {model.error:.2f} pixels"
    )
    for name, why in _missing(photographs, model).items():
        print(f"  without a place: {name} ({why})")
    return model


def _missing(photographs: list[Photograph], model: sfm.SparseModel) -> dict[str, str]:
    """File of each photograph without a place, and why."""
    usual = float(np.median([one.sharpness for one in photographs]))
    reasons = {}
    for one in photographs:
        if one.name in model.poses:
            continue
        is_blurred = one.sharpness < max(BLURRED, 0.7 * usual)
        blurred = f"blurred: sharpness {one.sharpness:.2f}, others {usual:.2f}"
        reasons[one.source] = blurred if is_blurred else "too little overlap with the others"
    return reasons


def _undistorted(photographs: list[Photograph], model: sfm.SparseModel, stages: Stages) -> Posed:
    """Stage 4: the placed photographs through pinhole cameras, 4 units from what they show."""
    placed = [one for one in photographs if one.name in model.poses]
    pinholes = {camera: pinhole_of(lens) for camera, lens in model.lenses.items()}
    paths = tuple(stages.work / "undistorted" / f"{one.name}.png" for one in placed)

    def work() -> dict[str, Any]:
        bar = tqdm(placed, desc="undistorting", unit="image", file=sys.stderr)
        for one, path in zip(bar, paths, strict=True):
            image = read_rgb(stages.work / "photographs" / one.file)
            _save(path, pinholes[one.camera].image(image))
        return {}

    stages.run("undistorted", [], work)
    each = tuple(pinholes[one.camera] for one in placed)
    cameras = [p.camera(model.poses[one.name]) for p, one in zip(each, placed, strict=True)]
    point = common_point(cameras)
    if point is None:
        raise InputError(
            "All photographs look in one direction, so only one side of the object is seen: walk "
            "all around it, in two or three rings, and take some from above."
        )
    focus = point.numpy()
    distance = float(np.median([np.linalg.norm(c.centre.numpy() - focus) for c in cameras]))
    scale = _DISTANCE / distance
    frame = Similarity(scale, np.eye(3), -scale * focus)
    cameras = [c.at(torch.from_numpy(frame.pose(c.world_to_camera.numpy()))) for c in cameras]
    origin = np.zeros(3)
    return Posed(
        tuple(one.name for one in placed), tuple(cameras), each, paths, origin,
        isolate.sphere_radius(cameras, origin), frame.points(model.points), model.colours,
    )  # fmt: skip


def _given_masks(
    config: PrepareConfig, photographs: list[Photograph], posed: Posed, stages: Stages
) -> list[NDArray[np.uint8]] | None:
    """Undistorted masks of the user: from --masks, or alpha channels; None without any."""
    by_name = {one.name: one for one in photographs}
    chosen = [by_name[name] for name in posed.names]
    if config.masks is None and not all(one.mask for one in chosen):
        return None
    masks = []
    for one, pinhole in zip(chosen, posed.pinholes, strict=True):
        path = stages.work / "alpha" / f"{one.name}.png"
        if config.masks is not None:
            path = _mask_file(config.masks, one)
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise InputError(f"{path} cannot be read as a mask: save it as a grey PNG.")
        resized = cv2.resize(mask, (one.width, one.height), interpolation=cv2.INTER_AREA)
        masks.append(pinhole.image(np.asarray(resized, np.uint8), is_mask=True))
    return masks


def _mask_file(folder: Path, one: Photograph) -> Path:
    """The mask of a photograph in the user's folder."""
    source = Path(one.source)
    names = (source.with_suffix(".png"), Path(f"{source}.png"))
    candidates = [folder / n for name in names for n in (name, Path(name.name))]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise InputError(
            f"{folder} has no mask for {one.source}: name it {names[0].name} or {names[1].name}."
        )
    return found


def _ground(posed: Posed) -> tuple[Array, Plane | None]:
    """Roughly up, and the plane that the object stands on."""
    up = -np.mean([camera.world_to_camera[1, :3].numpy() for camera in posed.cameras], axis=0)
    up /= np.linalg.norm(up)
    near = np.linalg.norm(posed.points - posed.focus, axis=1) < _PLANE_RADIUS * posed.radius
    plane = ground_plane(
        posed.points[near], posed.centres, up, posed.focus, _PLANE_TOLERANCE * posed.radius
    )
    return (up if plane is None else plane.normal), plane


def _train_briefly(
    posed: Posed, silhouettes: list[NDArray[np.uint8]] | None, threads: int
) -> ObjectRenderer:
    """A short model of the scene, or of what turns before a fixed background."""
    views, colours, outlines = [], [], []
    for number, (name, camera) in enumerate(zip(posed.names, posed.cameras, strict=True)):
        scale = min(1.0, _SMALL / max(camera.width, camera.height))
        size = (round(camera.width * scale), round(camera.height * scale))
        image = cv2.resize(read_rgb(posed.paths[number]), size, interpolation=cv2.INTER_AREA)
        if silhouettes is not None:
            outline = cv2.resize(silhouettes[number], size, interpolation=cv2.INTER_AREA) > 127
            image[~outline] = 0
            outlines.append(torch.from_numpy(outline))
        views.append(View(name, posed.paths[number], camera.resized(*size)))
        colours.append(torch.from_numpy(image).permute(2, 0, 1).contiguous())
    random = np.random.default_rng(0)
    chosen = random.permutation(len(posed.points))[:_POINTS]
    points = PointCloud(
        torch.from_numpy(posed.points[chosen]).float(),
        torch.from_numpy(posed.colours[chosen]).float() / 255,
    )
    background = None if silhouettes is None else (0.0, 0.0, 0.0)
    capture = Capture("short", Path(), "mad", tuple(views), (), background, points)
    preset = replace(
        TRAINING["default"], iterations=_ITERATIONS, sh_degree=1, max_gaussians=_GAUSSIANS,
        views_for_colour=0.0, smallest_contribution=0.0,
    )  # fmt: skip
    device, _ = choose_device("auto", "auto")
    images = TrainImages(colours, outlines if silhouettes is not None else None)
    training = Training(capture, tuple(views), images, preset, 0, device, "auto", threads)
    with tempfile.TemporaryDirectory() as scratch:
        gaussians, _ = optimise(training, ModelFolder(Path(scratch)))
    return training.renderer(gaussians)


def _write(
    config: PrepareConfig, photographs: list[Photograph], model: sfm.SparseModel, posed: Posed,
    stages: Stages, given: list[NDArray[np.uint8]] | None, turning: bool, threads: int,
) -> None:  # fmt: skip
    """Stages 5 to 7: the object, its masks, and the capture."""
    up, plane = _ground(posed)
    ply = stages.work / "scene.ply"

    def short_model() -> dict[str, Any]:
        rough = None
        if turning:
            rough = [
                p.image(_read_mask(stages.work / "foreground" / f"{n}.png"), is_mask=True)
                for p, n in zip(posed.pinholes, posed.names, strict=True)
            ]
        save_ply(_train_briefly(posed, rough, threads).gaussians, ply)
        return {}

    gaussians: Gaussians | None = None
    if given is None:
        stages.run("scene", [], short_model)
        gaussians = load_ply(ply)
        chosen = isolate.isolate(gaussians, posed.focus, posed.radius, plane)
        surface = gaussians.means.detach().double().numpy()[chosen]
    else:
        outlines = [torch.from_numpy(mask > 127) for mask in given]
        surface = visual_hull(posed.cameras, outlines).surface_points().double().numpy()
    frame, scale = _frame(config, posed, up, plane, surface, stages)
    if gaussians is not None:
        kept = isolate.within_boxes(
            frame.points(gaussians.means.detach().double().numpy()), config.keep_box, config.cut
        )
        chosen &= kept
        if not chosen.any():
            raise InputError("--keep-box and --cut leave nothing of the object: enlarge the box.")
    middle = frame.points(surface).mean(0)
    poses = [frame.pose(camera.world_to_camera.numpy()) for camera in posed.cameras]
    centres = frame.points(posed.centres)
    cover = coverage([_short(n) for n in posed.names], centres, middle)
    masks = given or _masks(config, gaussians, chosen, posed, stages, threads)
    _write_capture(config.folder, posed, poses, masks)
    _report(config, photographs, model, posed, stages, masks, cover, centres - middle, scale,
            turning, given is not None)  # fmt: skip


def _frame(
    config: PrepareConfig, posed: Posed, up: Array, plane: Plane | None, surface: Array,
    stages: Stages,
) -> tuple[Similarity, dict[str, Any]]:  # fmt: skip
    """Where the capture's frame lies, and what is known of its unit."""

    def work() -> dict[str, Any]:
        images = [read_rgb(path) for path in posed.paths]
        found = find_board(images, posed.cameras)
        if found is None:
            return {}
        into = found.into_millimetres
        return {
            "scale": into.scale, "rotation": into.rotation.tolist(), "shift": into.shift.tolist(),
            "corners": found.corners, "photographs": found.photographs, "error_mm": found.error,
        }  # fmt: skip

    stored = stages.run("board", [], work)
    if stored:
        into = Similarity(stored["scale"], np.array(stored["rotation"]), np.array(stored["shift"]))
        figures = {k: stored[k] for k in ("corners", "photographs", "error_mm")}
        return into, {"unit": "millimetres, by the board", "board": figures}
    rotation = upright(up)
    turned = surface @ rotation.T
    low, high = np.quantile(turned, (0.01, 0.99), axis=0)
    longest = float((high - low).max())
    factor = (config.scale or 1.0) / longest
    ground = plane.offset if plane is not None else low[2]
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, ground])
    unit = f"the longest side is {config.scale:g}" if config.scale else (
        "arbitrary (the longest side is 1): use a board, or --scale"
    )  # fmt: skip
    return Similarity(factor, rotation, -factor * origin), {"unit": unit}


def _masks(
    config: PrepareConfig, gaussians: Gaussians | None, chosen: NDArray[np.bool_], posed: Posed,
    stages: Stages, threads: int,
) -> list[NDArray[np.uint8]]:  # fmt: skip
    """Stage 6: the mask of each photograph, at the size of the undistorted one."""
    assert gaussians is not None
    paths = [stages.work / "masks" / f"{name}.png" for name in posed.names]

    def work() -> dict[str, Any]:
        device, _ = choose_device("auto", "auto")
        renderer = ObjectRenderer(
            gaussians.map(lambda t: t.to(device)), torch.zeros(3, device=device), "auto", threads
        )
        bar = tqdm(posed.cameras, desc="masks", unit="image", file=sys.stderr)
        found, small = [], []
        for camera, path in zip(bar, posed.paths, strict=True):
            scale = min(1.0, 2 * _SMALL / max(camera.width, camera.height))
            lens = camera.resized(round(camera.width * scale), round(camera.height * scale))
            rough = isolate.rendered_mask(renderer, chosen, lens)
            sharp = isolate.sharpened(read_rgb(path), rough)
            found.append(sharp)
            small.append(cv2.resize(sharp, (lens.width, lens.height),
                                    interpolation=cv2.INTER_AREA))  # fmt: skip
        lenses = [c.resized(*s.shape[::-1]) for c, s in zip(posed.cameras, small, strict=True)]
        allowed = isolate.consistent(small, lenses)
        for path, mask, where in zip(paths, found, allowed, strict=True):
            limit = cv2.resize(where.astype(np.uint8) * 255, mask.shape[::-1])
            _save(path, np.minimum(mask, limit))
        return {}

    stages.run("masks", [config.keep_box, config.cut, chosen.sum()], work)
    return [_read_mask(path) for path in paths]


def _write_capture(
    out: Path, posed: Posed, poses: list[Array], masks: list[NDArray[np.uint8]]
) -> None:
    """RGBA photographs whose colours under alpha 0 stay, and transforms.json."""
    frames = []
    wanted = {f"{name}.png" for name in posed.names}
    for old in (out / "train" / "good").glob("*.png"):
        if old.name not in wanted:
            old.unlink()
    bar = tqdm(posed.names, desc="writing", unit="image", file=sys.stderr)
    for number, name in enumerate(bar):
        image = read_rgb(posed.paths[number])
        alpha = np.where(posed.pinholes[number].covered, masks[number], 0).astype(np.uint8)
        path = f"train/good/{name}.png"
        _save(out / path, np.dstack([image, alpha]))
        camera_to_world = np.linalg.inv(poses[number]) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": path, "transform_matrix": camera_to_world.tolist()}
                      | _intrinsics(posed.pinholes[number]))  # fmt: skip
    write_json(out / "transforms.json", {"camera_model": "PINHOLE", "frames": frames})


def _intrinsics(pinhole: Pinhole) -> dict[str, float]:
    return {
        "fl_x": pinhole.fx, "fl_y": pinhole.fy, "cx": pinhole.cx, "cy": pinhole.cy,
        "w": pinhole.width, "h": pinhole.height,
    }  # fmt: skip


def _report(
    config: PrepareConfig, photographs: list[Photograph], model: sfm.SparseModel, posed: Posed,
    stages: Stages, masks: list[NDArray[np.uint8]], cover: Coverage, from_middle: Array,
    scale: dict[str, Any], turning: bool, is_given: bool,
) -> None:  # fmt: skip
    """prepare.json and overview.jpg: what was done, with its figures."""
    missing = _missing(photographs, model)
    shares = [float((mask > 127).mean()) for mask in masks]
    empty = [_short(n) for n, s in zip(posed.names, shares, strict=True) if s < _EMPTY_MASK]
    lines = [
        f"{len(posed.names)} of {len(photographs)} photographs placed, median reprojection error "
        f"{model.error:.2f} pixels",
        *(f"without a place: {name} ({why})" for name, why in missing.items()),
        f"unit: {scale['unit']}",
        *cover.gaps,
        *(f"no object in {name}" for name in empty),
    ]
    for line in cover.gaps:
        print(f"  {line}")
    settings = {
        k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items() if v is not None
    }
    write_json(config.folder / "prepare.json", {
        "settings": settings, "photographs": len(photographs), "placed": len(posed.names),
        "missing": missing, "reprojection_error_px": model.error, "features": model.settings,
        "sub_models": model.models, "fixed_camera": turning,
        "lenses": {camera: asdict(lens) for camera, lens in model.lenses.items()},
        "masks": "given" if is_given else "from a short model",
        "mask_shares": dict(zip(posed.names, shares, strict=True)), "without_object": empty,
        "scale": scale, "gaps": list(cover.gaps), "seconds": stages.seconds,
    })  # fmt: skip
    by_name = dict(zip(posed.names, range(len(posed.names)), strict=True))
    tiles: list[Tile] = []
    for one in photographs:
        number = by_name.get(one.name)
        if number is None:
            image = read_rgb(stages.work / "photographs" / one.file)
            tiles.append(tile_of(_short(one.name), image))
        else:
            image = read_rgb(posed.paths[number])
            tiles.append(tile_of(_short(one.name), image, masks[number]))
    write_overview(config.folder / "overview.jpg", tiles, cover, from_middle, lines)


def _short(name: str) -> str:
    """A photograph's name without its number."""
    return name.partition("_")[2]


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Writes a PNG, whole or not at all."""
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format="PNG", compress_level=3)


def _read_mask(path: Path) -> NDArray[np.uint8]:
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise InputError(f"{path} is damaged: add --overwrite to begin again.")
    return np.asarray(mask, np.uint8)


def _check(config: PrepareConfig) -> None:
    """Raises InputError for the first value that makes no sense."""
    if config.source is None:
        raise InputError("Name a folder of photographs or a video, or --board FILE.pdf.")
    if config.scale is not None and not config.scale > 0:
        raise InputError(f"--scale must be above 0, not {config.scale}")
    if config.frames < 8:
        raise InputError(f"--frames must be at least 8, not {config.frames}")
    if config.masks is not None and not config.masks.is_dir():
        raise InputError(f"There is no folder {config.masks}: check --masks.")
    if config.masks is not None and (config.keep_box or config.cut):
        raise InputError("With --masks there is nothing to cut: leave --keep-box and --cut out.")


def main() -> None:
    """Command line."""
    run(
        lambda: prepare(tyro.cli(PrepareConfig, description=__doc__)),
        "the same command goes on from the last stage",
    )


if __name__ == "__main__":
    main()
