"""Structure from motion: every call of pycolmap, whose names change between its versions."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scene import InputError

from .photographs import Photograph

PIP = "pip install 'pycolmap>=4.1.1,<5'"
_EXHAUSTIVE = 200  # images up to which all pairs are matched
_NEIGHBOURS = 15  # that each is matched with where there are more
_PAIRS_AT_ONCE = 300  # between two updates of the progress bar
_FEATURES = 4096  # of a photograph: matching takes time in their square
_FOUND = 0.95  # share of the photographs with which no other mapper is tried
_SEEN_POINTS = 20  # of the model, by which a photograph must be placed: fewer may be by chance
_SEED = 1


@dataclass(frozen=True)
class Settings:
    """How hard to look for features."""

    title: str
    peak_threshold: float = 0.0066667
    ratio: float = 0.8
    affine: bool = False  # affine shape and domain-size pooling
    below: float = 2.0  # tried where a smaller share of the photographs has found a place


LADDER = (
    Settings("SIFT as COLMAP has it"),
    Settings("peak threshold 0.0015, ratio 0.85", 0.0015, 0.85, below=0.98),
    Settings("affine DSP-SIFT, peak threshold 0.0015, ratio 0.85", 0.0015, 0.85, True, below=0.9),
)


@dataclass(frozen=True)
class Lens:
    """A camera as COLMAP calibrated it, OpenCV's distortion."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float]  # k1, k2, p1, p2


@dataclass(frozen=True)
class SparseModel:
    """What structure from motion found, in a frame and unit of its own."""

    lenses: dict[str, Lens]  # by camera
    poses: dict[str, NDArray[np.float64]]  # photograph's name to world_to_camera [4, 4]
    points: NDArray[np.float64]  # [M, 3]
    colours: NDArray[np.uint8]  # [M, 3]
    error: float  # pixels, median reprojection error
    settings: str  # of the ladder
    models: list[int]  # photographs of each sub-model


def require_pycolmap() -> ModuleType:
    """The package. Raises InputError where it is not installed, or too old."""
    try:
        import pycolmap
    except ImportError:
        raise InputError(f"prepare.py finds camera poses by pycolmap: run {PIP}") from None
    version = tuple(int(part) for part in pycolmap.__version__.split(".")[:3] if part.isdigit())
    if not (4, 1, 1) <= version < (5,):
        raise InputError(f"pycolmap {pycolmap.__version__} does not suit: run {PIP}")
    return pycolmap


def reconstruct(
    photographs: Sequence[Photograph],
    folder: Path,
    work: Path,
    masks: Path | None,
    threads: int,
) -> SparseModel:
    """Finds poses, with settings that find more where some photographs are left over.

    Args:
        folder: The working copies.
        work: For the database; emptied.
        masks: Folder of masks (camera/name.jpg.png); features are looked for where they are white.

    Raises:
        InputError: no two photographs can be joined.
    """
    colmap = require_pycolmap()
    colmap.logging.minloglevel = 2
    colmap.set_random_seed(_SEED)
    # An object that turns in the middle says little of the lens: it is believed where it is known.
    free = masks is None or any(one.focal is None for one in photographs)
    best: SparseModel | None = None
    for settings in LADDER:
        if best is not None and len(best.poses) >= settings.below * len(photographs):
            break
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        _extract(colmap, photographs, folder, work / "database.db", masks, threads, settings)
        _match(colmap, photographs, work, threads, settings)
        for title, mapper in _MAPPERS.items():
            found = mapper(colmap, work, folder, len(photographs), threads, free)
            model = _largest(found, f"{settings.title}, {title}")
            count = len(model.poses) if model is not None else 0
            print(f"{settings.title}, {title}: {count} of {len(photographs)} photographs placed")
            if model is not None and (best is None or count > len(best.poses)):
                best = model
            if count >= _FOUND * len(photographs):
                break
    shutil.rmtree(work, ignore_errors=True)
    if best is None or not best.poses:
        raise InputError(
            f"None of the {len(photographs)} photographs overlap enough to be joined: let "
            "neighbours share 60 to 80 % of what they show, and put the object on textured ground "
            "(prepare.py --board board.pdf prints one)."
        )
    return best


def _incremental(
    colmap: Any, work: Path, folder: Path, count: int, threads: int, free: bool,
    strict: bool = True,
) -> dict[int, Any]:  # fmt: skip
    """Models that grow photograph by photograph; not strict, with half as many points for each.

    `free`: the lens is refined.
    """
    options = colmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed = threads, _SEED
    options.min_model_size = 3
    options.ba_refine_focal_length = options.ba_refine_extra_params = free
    options.mapper.abs_pose_refine_focal_length = free
    options.mapper.abs_pose_refine_extra_params = free
    if not strict:
        options.min_num_matches = 10
        options.mapper.abs_pose_min_num_inliers = 15
        options.mapper.abs_pose_min_inlier_ratio = 0.1
    bar = tqdm(total=count, desc="poses", unit="image", file=sys.stderr)
    with bar:
        models = colmap.incremental_mapping(
            work / "database.db", folder, work / "models", options,
            next_image_callback=lambda: bar.update(bar.n < bar.total),
        )  # fmt: skip
    return dict(models)


def _global(
    colmap: Any, work: Path, folder: Path, count: int, threads: int, free: bool
) -> dict[int, Any]:
    """One model of all pairs at once (Pan et al., "Global structure-from-motion revisited")."""
    options = colmap.GlobalPipelineOptions()
    options.num_threads, options.random_seed = threads, _SEED
    options.mapper.bundle_adjustment.refine_focal_length = free
    options.mapper.bundle_adjustment.refine_extra_params = free
    return dict(colmap.global_mapping(work / "database.db", folder, work / "models", options))


_MAPPERS: dict[str, Callable[..., dict[int, Any]]] = {
    "incremental": _incremental,
    "incremental with fewer points": partial(_incremental, strict=False),
    "global": _global,
}


def _largest(models: dict[int, Any], settings: str) -> SparseModel | None:
    """The sub-model with most photographs."""
    if not models:
        return None
    sizes = sorted((model.num_reg_images() for model in models.values()), reverse=True)
    return _converted(max(models.values(), key=lambda m: m.num_reg_images()), settings, sizes)


def _extract(
    colmap: Any, photographs: Sequence[Photograph], folder: Path, database: Path,
    masks: Path | None, threads: int, settings: Settings,
) -> None:  # fmt: skip
    options = colmap.FeatureExtractionOptions()
    options.num_threads, options.use_gpu = threads, False
    options.sift.max_num_features = _FEATURES
    options.sift.peak_threshold = settings.peak_threshold
    options.sift.estimate_affine_shape = options.sift.domain_size_pooling = settings.affine
    for number, camera in enumerate(sorted({one.camera for one in photographs}), start=1):
        chosen = [one for one in photographs if one.camera == camera]
        reader = colmap.ImageReaderOptions()
        reader.camera_model = "SIMPLE_RADIAL"
        if chosen[0].focal is not None:
            f, x, y = chosen[0].focal, chosen[0].width / 2, chosen[0].height / 2
            reader.camera_params = f"{f},{x},{y},0"
        if masks is not None:
            reader.mask_path = masks
        names = [one.file for one in chosen]
        pieces = [names[i : i + 2 * threads] for i in range(0, len(names), 2 * threads)]
        for piece in tqdm(pieces, desc=f"features ({camera})", unit="batch", file=sys.stderr):
            colmap.extract_features(
                database, folder, piece, colmap.CameraMode.SINGLE, reader, options,
                colmap.Device.cpu,
            )  # fmt: skip
            reader.existing_camera_id = number  # the next batch is of the same camera


def _match(
    colmap: Any, photographs: Sequence[Photograph], work: Path, threads: int, settings: Settings
) -> None:
    """Matches every pair, or neighbours only where photographs are many."""
    matching = colmap.FeatureMatchingOptions()
    matching.num_threads, matching.use_gpu = threads, False
    matching.sift.max_ratio = settings.ratio
    verification = colmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = _SEED
    reach = len(photographs)
    if reach > _EXHAUSTIVE:
        reach = _NEIGHBOURS
        print(f"more than {_EXHAUSTIVE} photographs: each is matched with its {reach} neighbours")
    files = [one.file for one in photographs]
    pairs = [f"{a} {b}" for i, a in enumerate(files) for b in files[i + 1 : i + 1 + reach]]
    pairing = colmap.ImportedPairingOptions()
    pairing.match_list_path = work / "pairs.txt"
    bar = tqdm(total=len(pairs), desc="matching", unit="pair", file=sys.stderr)
    with bar:
        for first in range(0, len(pairs), _PAIRS_AT_ONCE):
            chunk = pairs[first : first + _PAIRS_AT_ONCE]
            pairing.match_list_path.write_text("\n".join(chunk) + "\n", encoding="utf-8")
            colmap.match_image_pairs(
                work / "database.db", matching, pairing, verification, colmap.Device.cpu
            )
            bar.update(len(chunk))


def _converted(model: Any, settings: str, sizes: list[int]) -> SparseModel:
    """A reconstruction as arrays."""
    lenses, poses = {}, {}
    for image in model.images.values():
        if not image.has_pose or image.num_points3D < _SEEN_POINTS:
            continue
        camera, file = image.name.split("/")
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().matrix()
        poses[Path(file).stem] = pose
        lenses[camera] = _lens(model.cameras[image.camera_id])
    points = list(model.points3D.values())
    errors = [point.error for point in points]
    return SparseModel(
        lenses, poses,
        np.array([point.xyz for point in points], np.float64).reshape(-1, 3),
        np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        float(np.median(errors)) if errors else 0.0, settings, sizes,
    )  # fmt: skip


def _lens(camera: Any) -> Lens:
    f, cx, cy, k1 = camera.params
    return Lens(camera.width, camera.height, f, f, cx, cy, (float(k1), 0.0, 0.0, 0.0))
