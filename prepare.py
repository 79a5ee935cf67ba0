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
from tqdm import tqdm

from gaussian_renderer import ObjectRenderer, choose_device
from pipeline.command_line import run, settle_threads
from pipeline.model_folder import ModelFolder
from pipeline.presets import TRAINING
from pipeline.training import Training
from preparation import backdrop, isolate, sfm
from preparation.board import find_board, write_board
from preparation.coverage import Coverage, coverage
from preparation.frame import board_as_json, capture_frame
from preparation.geometry import Array
from preparation.given_masks import given_masks
from preparation.isolate import Box
from preparation.output import read_mask, save_png, write_cameras, write_capture
from preparation.overview import Tile, tile_of, write_overview
from preparation.photographs import (
    BLURRED,
    Cameras,
    Photograph,
    as_json,
    import_photographs,
    read_rgb,
)
from preparation.posed import Posed, ground, place, subset, without_misplaced
from preparation.stages import Stages, load_sparse, save_sparse
from scene import (
    Capture,
    Gaussians,
    InputError,
    TrainImages,
    View,
    folder_lock,
    load_ply,
    read_json,
    refuse_inside,
    save_ply,
    visual_hull,
    write_json,
)
from scene.capture import PointCloud
from train import optimise

_SMALL = 240  # pixels of the longer side, of the images of the short model
_ITERATIONS, _GAUSSIANS, _POINTS = 900, 25_000, 15_000  # of the short model
_LOWEST_SHARE = 0.5  # of the photographs that must find a place
_LOWEST_AGREEMENT = 0.5  # IoU of a mask and the visual hull: below, the photograph is left out
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
    _check_out(source, out, config.overwrite)
    threads = settle_threads(config.threads)
    with folder_lock(out, "-o"):
        work = out / ".work"
        if config.overwrite:
            shutil.rmtree(work, ignore_errors=True)
        stages = Stages(work)
        photographs = _photographs(config, source, stages)
        turning = _foreground(photographs, stages)
        model = _poses(photographs, stages, turning, threads)
        posed = _undistorted(photographs, model, stages)
        masks = given_masks(config.masks, work / "alpha", photographs, posed)
        _write(config, photographs, model, posed, stages, masks, turning, threads)
    refine = " --refine-poses" * turning  # poses of a turntable are off by pixels
    print(
        f"capture: {out}  (look at {out / 'overview.jpg'}; then python train.py -s {out}{refine})"
    )
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
        masks = backdrop.foreground_masks(images, background)
        for one, mask in zip(photographs, masks, strict=True):
            save_png(stages.work / "foreground" / f"{one.name}.png", mask)
            wide = backdrop.widened(mask)
            save_png(stages.work / "colmap_masks" / f"{one.file}.png", wide)
        return {"turning": True}

    return bool(stages.run("background", [], work)["turning"])


def _poses(
    photographs: list[Photograph], stages: Stages, turning: bool, threads: int
) -> sfm.SparseModel:
    """Stage 3: where the photographs were taken."""
    points = stages.work / "points.npz"

    def work() -> dict[str, Any]:
        model = sfm.reconstruct(
            photographs, stages.work / "photographs", stages.work / "colmap",
            stages.work / "colmap_masks" if turning else None, threads,
        )  # fmt: skip
        return save_sparse(without_misplaced(model), points)

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
    """Stage 4: the placed photographs through pinhole cameras."""
    posed = place(photographs, model, stages.work / "undistorted")
    sources = {one.name: stages.work / "photographs" / one.file for one in photographs}

    def work() -> dict[str, Any]:
        bar = tqdm(posed.names, desc="undistorting", unit="image", file=sys.stderr)
        for name, path, pinhole in zip(bar, posed.paths, posed.pinholes, strict=True):
            save_png(path, pinhole.image(read_rgb(sources[name])))
        return {}

    stages.run("undistorted", [], work)
    return posed


def _train_briefly(
    posed: Posed, silhouettes: list[NDArray[np.uint8]] | None, threads: int
) -> ObjectRenderer:
    """A short model of the scene, or of what turns before a fixed background."""
    views, colours, outlines, small = [], [], [], []
    for camera, path in zip(posed.cameras, posed.paths, strict=True):
        scale = min(1.0, _SMALL / max(camera.width, camera.height))
        size = (round(camera.width * scale), round(camera.height * scale))
        small.append(cv2.resize(read_rgb(path), size, interpolation=cv2.INTER_AREA))
    # What has the colour behind the model stays empty: that of the borders is hardly the object's
    borders = [np.concatenate([i[0], i[-1], i[:, 0], i[:, -1]]) for i in small]
    behind = np.median(np.concatenate(borders), axis=0).round()
    for number, (name, image) in enumerate(zip(posed.names, small, strict=True)):
        camera, size = posed.cameras[number], image.shape[1::-1]
        if silhouettes is not None:
            outline = cv2.resize(silhouettes[number], size, interpolation=cv2.INTER_AREA) > 127
            image[~outline] = behind
            outlines.append(torch.from_numpy(outline))
        views.append(View(name, posed.paths[number], camera.resized(*size)))
        colours.append(torch.from_numpy(image).permute(2, 0, 1).contiguous())
    random = np.random.default_rng(0)
    chosen = random.permutation(len(posed.points))[:_POINTS]
    points = PointCloud(
        torch.from_numpy(posed.points[chosen]).float(),
        torch.from_numpy(posed.colours[chosen]).float() / 255,
    )
    colour = (behind[0] / 255, behind[1] / 255, behind[2] / 255)
    capture = Capture("short", Path(), "mad", tuple(views), (), colour, points)
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
    up, plane = ground(posed)
    ply = stages.work / "scene.ply"

    def short_model() -> dict[str, Any]:
        rough = None
        if turning:
            rough = [
                p.image(read_mask(stages.work / "foreground" / f"{n}.png"), is_mask=True)
                for p, n in zip(posed.pinholes, posed.names, strict=True)
            ]
        save_ply(_train_briefly(posed, rough, threads).gaussians, ply)
        return {}

    gaussians: Gaussians | None = None
    if given is None:
        stages.run("scene", [_SMALL, _ITERATIONS], short_model)
        gaussians = load_ply(ply)
        chosen = isolate.isolate(gaussians, posed.focus, posed.radius, plane)
        surface = gaussians.means.detach().double().numpy()[chosen]
    else:
        outlines = [torch.from_numpy(mask > 127) for mask in given]
        surface = visual_hull(posed.cameras, outlines).surface_points().double().numpy()
    board = stages.run("board", [], lambda: _board(posed))
    frame, scale = capture_frame(board, up, plane, surface, config.scale)
    if gaussians is not None:
        kept = isolate.within_boxes(
            frame.points(gaussians.means.detach().double().numpy()), config.keep_box, config.cut
        )
        chosen &= kept
        if not chosen.any():
            raise InputError("--keep-box and --cut leave nothing of the object: enlarge the box.")
    middle = frame.points(surface).mean(0)
    doubtful: list[str] = []
    if given is not None:
        masks = given
    else:
        masks, doubtful = _masks(config, gaussians, chosen, posed, stages, threads)
        posed = subset(posed, [name for name in posed.names if name not in doubtful])
        model = replace(model, poses={name: model.poses[name] for name in posed.names})
    poses = [frame.pose(camera.world_to_camera.numpy()) for camera in posed.cameras]
    centres = frame.points(posed.centres)
    cover = coverage([_short(n) for n in posed.names], centres, middle)
    write_capture(config.folder, posed, poses, masks)
    write_cameras(config.folder, model.lenses)
    _report(config, photographs, model, posed, stages, masks, cover, centres - middle, scale,
            turning, given is not None, doubtful)  # fmt: skip


def _board(posed: Posed) -> dict[str, Any]:
    """The printed board in the photographs, if it is there."""
    return board_as_json(find_board([read_rgb(path) for path in posed.paths], posed.cameras))


def _masks(
    config: PrepareConfig, gaussians: Gaussians | None, chosen: NDArray[np.bool_], posed: Posed,
    stages: Stages, threads: int,
) -> tuple[list[NDArray[np.uint8]], list[str]]:  # fmt: skip
    """Stage 6: the masks at the size of the undistorted photographs, and the photographs left out.

    Left out is a photograph whose mask has little in common with what all others say: its place is
    wrong. The masks are those of the rest.
    """
    assert gaussians is not None
    paths = [stages.work / "masks" / f"{name}.png" for name in posed.names]

    def work() -> dict[str, Any]:
        device, _ = choose_device("auto", "auto")
        renderer = ObjectRenderer(
            gaussians.map(lambda t: t.to(device)), torch.zeros(3, device=device), "auto", threads
        )
        bar = tqdm(posed.cameras, desc="masks", unit="image", file=sys.stderr)
        found: list[NDArray[np.uint8]] = []
        small: list[NDArray[np.uint8]] = []
        for camera, path in zip(bar, posed.paths, strict=True):
            scale = min(1.0, 2 * _SMALL / max(camera.width, camera.height))
            lens = camera.resized(round(camera.width * scale), round(camera.height * scale))
            rough = isolate.rendered_mask(renderer, chosen, lens)
            sharp = isolate.sharpened(read_rgb(path), rough)
            found.append(sharp)
            size = (lens.width, lens.height)
            small.append(np.asarray(cv2.resize(sharp, size, interpolation=cv2.INTER_AREA)))
        lenses = [c.resized(*s.shape[::-1]) for c, s in zip(posed.cameras, small, strict=True)]
        allowed = isolate.consistent(small, lenses)
        agreement = [
            float((where & (s > 127)).sum() / max(1, (where | (s > 127)).sum()))
            for where, s in zip(allowed, small, strict=True)
        ]
        doubtful = [n for n, a in zip(posed.names, agreement, strict=True) if a < _LOWEST_AGREEMENT]
        for path, mask, where in zip(paths, found, allowed, strict=True):
            limit = np.asarray(cv2.resize(where.astype(np.uint8) * 255, mask.shape[::-1]))
            kept = np.minimum(mask, limit).astype(np.uint8)
            save_png(path, isolate.without_holes(kept, limit > 127))
        return {"doubtful": doubtful}

    stored = stages.run("masks", [config.keep_box, config.cut, chosen.sum()], work)
    doubtful = stored["doubtful"]
    kept = [p for n, p in zip(posed.names, paths, strict=True) if n not in doubtful]
    return [read_mask(path) for path in kept], doubtful


def _report(
    config: PrepareConfig, photographs: list[Photograph], model: sfm.SparseModel, posed: Posed,
    stages: Stages, masks: list[NDArray[np.uint8]], cover: Coverage, from_middle: Array,
    scale: dict[str, Any], turning: bool, is_given: bool, doubtful: list[str],
) -> None:  # fmt: skip
    """prepare.json and overview.jpg: what was done, with its figures."""
    missing = _missing(photographs, model)
    wrong = "its place contradicts the other photographs"
    missing |= {one.source: wrong for one in photographs if one.name in doubtful}
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


def _check(config: PrepareConfig) -> None:
    """Raises InputError for the first value that makes no sense."""
    if config.source is None:
        raise InputError("Name a folder of photographs or a video, or --board FILE.pdf.")
    if not config.source.expanduser().exists():
        raise InputError(f"There is no folder or video {config.source}: check the path.")
    if config.scale is not None and not 1e-6 <= config.scale <= 1e9:
        raise InputError(f"--scale must lie between 1e-6 and 1e9, not {config.scale}")
    for name, box in (("--keep-box", config.keep_box), ("--cut", config.cut)):
        if box and not (
            np.isfinite(box).all() and all(a < b for a, b in zip(box[:3], box[3:], strict=True))
        ):
            raise InputError(f"{name} takes six finite numbers, lowest x, y, z and then highest")
    if config.frames < 8:
        raise InputError(f"--frames must be at least 8, not {config.frames}")
    if config.masks is not None and not config.masks.is_dir():
        raise InputError(f"There is no folder {config.masks}: check --masks.")
    if config.masks is not None and (config.keep_box or config.cut):
        raise InputError("With --masks there is nothing to cut: leave --keep-box and --cut out.")


def _check_out(source: Path, out: Path, overwrite: bool) -> None:
    """Raises InputError where writing to `out` would take something away."""
    if source.resolve().is_relative_to(out.resolve()):
        raise InputError(f"-o {out} holds the photographs: choose another folder.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / ".work").is_dir():
        raise InputError(
            f"-o {out} holds something that prepare.py did not make: choose another folder."
        )
    report = out / "prepare.json"
    if report.is_file() and not overwrite:
        before = read_json(report, "add --overwrite to begin again").get("settings", {})
        if Path(str(before.get("source", source))).resolve() != source.resolve():
            raise InputError(
                f"-o {out} holds the capture of {before['source']}: choose another folder, or add "
                "--overwrite."
            )


def main() -> None:
    """Command line."""
    run(
        lambda: prepare(tyro.cli(PrepareConfig, description=__doc__)),
        "the same command goes on from the last stage",
    )


if __name__ == "__main__":
    main()
