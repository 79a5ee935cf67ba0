"""Tiny captures, images, masks and model folders with something wrong in them, for every reader.

The rule: a value that can be computed with, or one InputError of one line, within seconds and
without a surge of memory.
"""

import collections
import faulthandler
import io
import logging
import math
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.calibration import CalibrationViews
from pipeline.model_folder import ModelFolder, camera_from_json
from pipeline.open_inspector import load_normal_model
from pipeline.training import load_checkpoint, views_at
from pose_estimation import load_gallery
from scene import (
    Camera,
    InputError,
    World,
    damage_named,
    load_ply,
    mask_doubt,
    read_capture,
    read_image,
    read_mask,
    read_queries,
    read_train_images,
    true_poses,
)
from tests import captures
from tests.fuzz.mutations import mutate_arrays, mutate_bytes, mutate_json, mutate_text
from tests.small_training import ITERATIONS, small
from train import train

PATIENCE = 60  # seconds for one case, on a busy machine
SURGE = 2**20  # KiB of memory that all cases together may take more than the first did
Check = Callable[[], list[str]]  # reads, and says what is wrong with the value
SIZE = captures.SIZE


@dataclass(frozen=True)
class Subject:
    """One file to be damaged, and who reads it."""

    name: str
    path: Path
    mutate: Callable[[bytes, random.Random], bytes]
    check: Check


def finite(**values: torch.Tensor) -> list[str]:
    """Names of tensors that are not finite."""
    return [f"{name} is not finite" for name, value in values.items() if not value.isfinite().all()]


def camera_faults(camera: Camera) -> list[str]:
    """What is wrong with a camera."""
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    pose = camera.world_to_camera
    wrong = [] if all(map(math.isfinite, numbers)) else ["a lens is not finite"]
    if min(camera.fx, camera.fy) <= 0 or min(camera.width, camera.height) < 1:
        wrong.append("a lens is not positive")
    if (
        not pose.isfinite().all()
        or (pose[:3, :3] @ pose[:3, :3].T - torch.eye(3)).abs().max() > 0.01
    ):
        wrong.append("a pose is not rigid")
    return wrong


def capture_check(root: Path) -> Check:
    """Reads a capture, its images and true poses."""

    def check() -> list[str]:
        capture = read_capture(root, 24)
        wrong = [fault for view in capture.views for fault in camera_faults(view.camera)]
        images = read_train_images(capture, capture.views[:2])
        wrong += [f for image in images.floats() for f in finite(image=image)]
        wrong += [f for pose in true_poses(capture).values() for f in finite(pose=pose)]
        if capture.points is not None:
            wrong += finite(points=capture.points.xyz, colours=capture.points.rgb)
        if not capture.views:
            wrong.append("there are no views")
        return wrong

    return check


def image_check(path: Path) -> Check:
    """Reads a query."""

    def check() -> list[str]:
        image = read_image(path, (SIZE, SIZE), white=4095.0)
        wrong = finite(image=image)
        if image.shape != (3, SIZE, SIZE) or not 0 <= image.min() <= image.max() <= 1.0001:
            wrong.append("the image is not 0 to 1 of its size")
        return wrong

    return check


def mask_check(path: Path) -> Check:
    """Reads a mask."""

    def check() -> list[str]:
        mask = read_mask(path, (SIZE, SIZE))
        mask_doubt(mask.numpy(), True)
        return [] if mask.shape == (SIZE, SIZE) and mask.dtype == torch.bool else ["not a mask"]

    return check


def config_check(folder: ModelFolder) -> Check:
    """Reads the settings of a model."""

    def check() -> list[str]:
        config = folder.load_config()
        world = World.from_json(config.get("world"))
        wrong = camera_faults(camera_from_json(config["camera"]))
        if not all(map(math.isfinite, (world.unit, *world.origin, *(config["background"] or ())))):
            wrong.append("the world or background is not finite")
        return wrong

    return check


def calibration_check(folder: ModelFolder) -> Check:
    """Reads the calibration and sets a threshold."""

    def check() -> list[str]:
        calibration = folder.load_calibration(ITERATIONS)
        limits = calibration.pose_check.limits.values() if calibration.pose_check else ()
        values = [*limits, *(s.threshold(0.01).value for s in calibration.scores.values())]
        return [] if all(map(math.isfinite, values)) else ["a limit is not finite"]

    return check


def checkpoint_check(path: Path) -> Check:
    """Reads the state of a training."""
    return lambda: finite(**load_checkpoint(path, torch.device("cpu")).gaussians.named_tensors())


def queries_check(root: Path) -> Check:
    """Lists the images under a folder."""

    def check() -> list[str]:
        queries = read_queries(root)
        return [] if len({q.name for q in queries}) == len(queries) else ["a name occurs twice"]

    return check


def as_json(content: bytes, dice: random.Random) -> bytes:
    """Mutation of a JSON file."""
    return mutate_json(content.decode(), dice)


def as_text(content: bytes, dice: random.Random) -> bytes:
    """Mutation of a text file."""
    return mutate_text(content.decode(), dice)


def as_npz(content: bytes, dice: random.Random) -> bytes:
    """Mutation of an archive of arrays: of its bytes, or of one array."""
    if dice.random() < 0.4:
        return mutate_bytes(content, dice)
    with np.load(io.BytesIO(content)) as archive:
        arrays = mutate_arrays(dict(archive), dice)
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def as_ply(content: bytes, dice: random.Random) -> bytes:
    """Mutation of a PLY: of its header's lines, of any bytes, or of the numbers."""
    at = content.index(b"end_header\n")
    if dice.random() < 0.5:
        return mutate_text(content[:at].decode(), dice) + b"\n" + content[at:]
    return mutate_bytes(content, dice)


KINDS = {
    "png": {}, "jpg": {}, "bmp": {}, "tif": {}, "webp": {}, "gif": {}, "ppm": {}, "avif": {},
    "jp2": {}, "tga": {}, "jpe": {"format": "JPEG", "progressive": True},
}  # fmt: skip


def image_subjects(root: Path) -> list[Subject]:
    """Images and masks of every kind, in every mode that it can hold."""
    found = []
    base = captures.ball_image(captures.orbit(1)[0])
    deep = Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 16)
    for suffix, more in KINDS.items():
        for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16", "F"):
            path = root / f"{mode.replace(';', '')}.{suffix}"
            try:
                (deep if mode == "I;16" else base.convert(mode)).save(path, **more)
            except (OSError, KeyError, ValueError):  # a kind that has no such mode
                path.unlink(missing_ok=True)
                continue
            found.append(Subject(f"image {suffix}", path, mutate_bytes, image_check(path)))
            found.append(Subject(f"mask {suffix}", path, mutate_bytes, mask_check(path)))
    return found


def capture_subjects(root: Path) -> list[Subject]:
    """Captures of every format: their poses, models and images."""
    mad = captures.write_mad(root / "mad", 4, {"good": 1, "Burrs": 1})
    blender = captures.write_blender(root / "blender", 3, 1)
    binary = captures.write_colmap(root / "binary", 4)
    text = captures.write_colmap(root / "text", 4, binary=False)
    found = [
        Subject("transforms.json", mad / "transforms.json", as_json, capture_check(mad)),
        Subject("test_poses.json", mad / "test_poses.json", as_json, capture_check(mad)),
        Subject("train image", mad / "train/good/0.png", mutate_bytes, capture_check(mad)),
        Subject("queries", mad / "test/good/0.png", mutate_bytes, queries_check(mad)),
        Subject("blender", blender / "transforms_train.json", as_json, capture_check(blender)),
    ]
    for name in ("cameras", "images", "points3D"):
        path = binary / f"sparse/0/{name}.bin"
        found.append(Subject("COLMAP binary", path, mutate_bytes, capture_check(binary)))
        path = text / f"sparse/0/{name}.txt"
        found.append(Subject("COLMAP text", path, as_text, capture_check(text)))
    return found


def model_subjects(root: Path) -> list[Subject]:
    """The files of a model folder."""
    data = captures.write_mad(root / "ball", 24, {"good": 1})
    kept = root / "checkpoint.npz"

    with redirect_stdout(io.StringIO()):
        folder = ModelFolder(train(small(data, root / "model")))
    _keep_checkpoint(kept)
    views = read_capture(data).views
    poses = folder.train_poses_path
    poses.write_text(
        captures.json.dumps({v.name: v.camera.world_to_camera.tolist() for v in views})
    )
    count = len(folder.load_gaussians(ITERATIONS))
    ply = folder.point_cloud_path(ITERATIONS)

    def gallery() -> list[str]:
        return finite(poses=load_gallery(folder.gallery_path).world_to_camera)

    def stored_views() -> list[str]:
        with damage_named(folder.calibration_views_path, "run calibrate.py"):
            found = CalibrationViews.load(folder.calibration_views_path)
        return [] if len(found.images) == len(found.cameras) else ["views without cameras"]

    def normal_model() -> list[str]:
        found = load_normal_model(folder, count)
        return [] if len(found.moments.common) == count else ["another number of Gaussians"]

    def corrected() -> list[str]:
        return [f for view in views_at(views, poses) for f in camera_faults(view.camera)]

    return [
        Subject("config.json", folder.config_path, as_json, config_check(folder)),
        Subject("calibration.json", folder.calibration_path, as_json, calibration_check(folder)),
        Subject("PLY", ply, as_ply, lambda: finite(**load_ply(ply).named_tensors())),
        Subject("gallery.npz", folder.gallery_path, as_npz, gallery),
        Subject("calibration_views.npz", folder.calibration_views_path, as_npz, stored_views),
        Subject("normal_model.npz", folder.normal_model_path, as_npz, normal_model),
        Subject("checkpoint.npz", kept, as_npz, checkpoint_check(kept)),
        Subject("train_poses.json", poses, as_json, corrected),
    ]


def _keep_checkpoint(path: Path) -> None:
    """A checkpoint of a few Gaussians."""
    from gaussian_renderer import GaussianAdam
    from pipeline.training import Checkpoint, save_checkpoint
    from scene import DensifyStatistics, Gaussians

    cloud = Gaussians(
        torch.rand(5, 3), torch.rand(5, 3), torch.rand(5, 4), torch.rand(5), torch.rand(5, 1, 3)
    )
    statistics = DensifyStatistics(torch.zeros(5), torch.zeros(5))
    save_checkpoint(Checkpoint(3, cloud, GaussianAdam(cloud), statistics, 1.0), path)


def run_case(subject: Subject, dice: random.Random) -> tuple[str, str]:
    """(outcome, what is to be said of it); the file is put back."""
    content = subject.path.read_bytes()
    subject.path.write_bytes(subject.mutate(content, dice))
    try:
        wrong = subject.check()
        return ("wrong value", "; ".join(wrong)) if wrong else ("value", "")
    except InputError:
        return "refused", ""
    except Exception:
        return "traceback", traceback.format_exc()
    finally:
        subject.path.write_bytes(content)


def run(cases: int, seed: int) -> int:
    """Runs the cases, prints what fails and the counts by outcome; returns how many failed."""
    torch.set_num_threads(1)
    logging.disable()
    if not faulthandler.is_enabled():
        faulthandler.enable()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    failed, slowest = 0, 0.0
    root = Path(tempfile.mkdtemp(prefix="fuzz"))
    (root / "images").mkdir()
    groups = [model_subjects(root), capture_subjects(root), image_subjects(root / "images")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stderr = os.dup(2)
    for number in range(cases):
        dice = random.Random(1_000_003 * seed + number)
        subject = dice.choice(dice.choice(groups))
        faulthandler.dump_traceback_later(PATIENCE, exit=True, file=stderr)
        started = time.perf_counter()
        outcome, message = run_case(subject, dice)
        slowest = max(slowest, time.perf_counter() - started)
        faulthandler.cancel_dump_traceback_later()
        counts[subject.name, outcome] += 1
        if outcome not in ("value", "refused"):
            failed += 1
            print(f"readers: case {number}, {subject.path.name}: {outcome}: {message}", flush=True)
    logging.disable(logging.NOTSET)
    os.close(stderr)
    surge = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if surge > SURGE:
        failed += 1
        print(f"readers: memory grew by {surge / 1024:.0f} MiB")
    shutil.rmtree(root)
    for (name, outcome), count in sorted(counts.items()):
        print(f"{name:24s} {outcome:12s} {count:7d}")
    totals = collections.Counter(o for (_, o), c in counts.items() for _ in range(c))
    print(f"readers: {cases} cases of seed {seed}: {dict(totals)}; slowest {slowest:.2f} s, memory "
          f"+{surge / 1024:.0f} MiB", file=sys.stdout)  # fmt: skip
    return failed
