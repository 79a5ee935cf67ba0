"""Does `pose_ok` tell right poses from wrong ones? Good queries, other objects, and no object.

    python -m benchmarks.pose_check --model out/brick_dog --source data/brick_dog \
        --others data/brick_parrot nerf_synthetic/lego --json pose_check.json

Good queries are the capture's own with known poses: right when found within 1 degree and 0.02
units. Of each other capture up to `--images` queries are shown to the model; and pictures that a
seed makes: noise, blobs, one colour, a tiny object. Prints how many were right, how many flagged,
and how many judged wrongly (right and flagged, or wrong and accepted), with errors and times.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import tyro
from torch import Tensor

from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.open_model import Parts, open_model
from pipeline.presets import DETECTION
from pose_estimation import MatcherName, PoseSettings, rotation_error, translation_error
from scene import Camera, InputError, Query, read_capture, read_image, true_poses, write_json

from .common import ANGLE_LIMIT, DISTANCE_LIMIT, machine

_MADE = 4  # pictures of each made kind


@dataclass(frozen=True)
class Config:
    """Command line."""

    model: Path
    """Model folder written by train.py."""
    source: Path
    """The capture that it was trained on."""
    others: tuple[Path, ...] = ()
    """Captures of other objects."""
    images: int = 50
    """Queries of each other capture, at most."""
    queries: int = 1000
    """Queries of the model's own capture, at most."""
    matcher: MatcherName = "auto"
    weights: Path | None = None
    """Folder with weights of XFeat or LoFTR."""
    threads: int = 1
    seed: int = 0
    json: Path | None = None
    """Where to write the results."""


@dataclass(frozen=True)
class Row:
    """One kind of pictures."""

    kind: str
    images: int
    right: int  # poses within 1 degree and 0.02 units
    flagged: int  # pose_ok is False
    wrongly_judged: int  # right and flagged, or wrong and accepted
    rotation_median: float | None  # degrees; None where there is no true pose
    rotation_worst: float | None
    translation_median: float | None  # world units
    translation_worst: float | None
    seconds_median: float
    seconds_worst: float
    cpu_seconds_median: float  # processor time of this process: what an idle machine would take
    cpu_seconds_worst: float


class Sample(NamedTuple):
    """One picture and, if it shows the model's object, the true world_to_camera [4, 4]."""

    image: Tensor  # [3, H, W]
    truth: Tensor | None


def main(config: Config) -> list[Row]:
    """Measures every kind and returns its rows. Raises InputError for captures without poses."""
    torch.set_num_threads(config.threads)
    inspector = _open(config)
    rows = [measure("the object", inspector, own_queries(config.source, inspector, config.queries))]
    print(line(rows[0]), flush=True)
    for other in config.others:
        foreign = foreign_queries(other, inspector, config.images)
        rows.append(measure(f"another: {other.name}", inspector, foreign))
        print(line(rows[-1]), flush=True)
    generator = torch.Generator().manual_seed(config.seed)
    camera, background = inspector.camera, inspector.model.background.cpu()
    for kind in MADE:
        samples = (
            Sample(make(kind, camera, background, generator), None) for _ in range(_MADE)
        )  # fmt: skip
        rows.append(measure(kind, inspector, samples))
        print(line(rows[-1]), flush=True)
    if config.json is not None:
        document = {"machine": machine(config.threads), "model": config.model.name}
        write_json(config.json, document | {"rows": [asdict(row) for row in rows]})
    print(table(rows))
    return rows


def _open(config: Config) -> Inspector:
    # No anomaly map is made here, so that no weights of a backbone are needed.
    preset = replace(DETECTION["default"], features="rgb", matcher=config.matcher)
    parts = Parts(preset, PoseSettings(threads=config.threads), config.weights, 0.01)
    opened = open_model(ModelFolder(config.model), parts, torch.device("cpu"))
    if opened.inspector.pose_check is None:
        raise InputError(f"'{config.model}' was trained without views kept out: no pose check")
    print("\n".join(opened.remarks))
    return opened.inspector


def own_queries(source: Path, inspector: Inspector, most: int) -> Iterator[Sample]:
    """Queries of the model's capture whose poses are known. Raises InputError when none is."""
    capture = read_capture(source)
    truth = true_poses(capture)
    known = [query for query in capture.queries if query.name in truth]
    if not known:
        raise InputError(f"'{source}' has no queries with known poses")
    for query in _spread(known, most):
        yield Sample(inspector.read(query.image_path)[0], truth[query.name])


def foreign_queries(source: Path, inspector: Inspector, most: int) -> Iterator[Sample]:
    """Queries of another capture, good and defective ones, at the model's size."""
    queries = read_capture(source).queries
    size = (inspector.camera.width, inspector.camera.height)
    background = tuple(inspector.model.background.tolist())
    for query in _spread(queries, most):
        yield Sample(read_image(query.image_path, size, background), None)


def _spread(queries: Sequence[Query], most: int) -> list[Query]:
    """At most so many, evenly spread."""
    count = min(most, len(queries))
    return [queries[i * len(queries) // count] for i in range(count)]


MADE = ("noise", "blobs", "one colour", "background only", "tiny object", "noise square", "half")


def make(kind: str, camera: Camera, background: Tensor, generator: torch.Generator) -> Tensor:
    """A picture [3, H, W] of the named kind that does not show the object."""
    height, width = camera.height, camera.width
    whole = background[:, None, None].expand(3, height, width).clone()
    colour = torch.rand(3, 1, 1, generator=generator)
    if kind == "noise":
        return torch.rand(3, height, width, generator=generator)
    if kind == "blobs":
        small = torch.rand(1, 3, 8, 8, generator=generator)
        size = (height, width)
        return torch.nn.functional.interpolate(small, size=size, mode="bilinear")[0]
    if kind == "one colour":
        return colour.expand(3, height, width).clone()
    if kind == "tiny object":
        side = max(2, min(height, width) // 40)
        whole[:, height // 3 : height // 3 + side, width // 2 : width // 2 + side] = colour
    elif kind == "noise square":
        top, left = height // 4, width // 4
        square = torch.rand(3, height // 2, width // 2, generator=generator)
        whole[:, top : top + height // 2, left : left + width // 2] = square
    elif kind == "half":
        whole[:, :, : width // 2] = colour
    return whole


def measure(kind: str, inspector: Inspector, samples: Iterator[Sample]) -> Row:
    """Estimates the pose of every sample and counts."""
    judged, angles, distances, walls, cpus = [], [], [], [], []
    for image, truth in samples:
        began, began_cpu = time.perf_counter(), time.process_time()
        pose = inspector.locate(image, inspector.camera)
        cpus.append(time.process_time() - began_cpu)
        walls.append(time.perf_counter() - began)
        right = False
        if truth is not None:
            angles.append(float(rotation_error(pose.world_to_camera, truth)))
            distances.append(float(translation_error(pose.world_to_camera, truth)))
            right = angles[-1] < ANGLE_LIMIT and distances[-1] < DISTANCE_LIMIT
        judged.append((right, bool(pose.pose_ok)))
    degrees = [math.degrees(angle) for angle in angles]
    return Row(
        kind=kind,
        images=len(judged),
        right=sum(right for right, _ in judged),
        flagged=sum(not accepted for _, accepted in judged),
        wrongly_judged=sum(right != accepted for right, accepted in judged),
        rotation_median=statistics.median(degrees) if degrees else None,
        rotation_worst=max(degrees, default=None),
        translation_median=statistics.median(distances) if distances else None,
        translation_worst=max(distances, default=None),
        seconds_median=statistics.median(walls),
        seconds_worst=max(walls),
        cpu_seconds_median=statistics.median(cpus),
        cpu_seconds_worst=max(cpus),
    )


def line(row: Row) -> str:
    """One row in words, for the terminal."""
    return (
        f"{row.kind:24s} {row.images:3d} images, {row.right} right, {row.flagged} flagged, "
        f"{row.wrongly_judged} wrongly judged, CPU s {row.cpu_seconds_median:.2f}, "
        f"worst {row.cpu_seconds_worst:.2f}"
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line per kind."""
    lines = [
        "| pictures | images | right | flagged | wrongly judged | rotation, deg | position "
        "| CPU s a query |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        rotation, position = "-", "-"
        if row.rotation_median is not None and row.translation_median is not None:
            rotation = f"{row.rotation_median:.3f}, worst {row.rotation_worst:.2f}"
            position = f"{row.translation_median:.4f}, worst {row.translation_worst:.4f}"
        lines.append(
            f"| {row.kind} | {row.images} | {row.right} | {row.flagged} | {row.wrongly_judged} "
            f"| {rotation} | {position} "
            f"| {row.cpu_seconds_median:.2f}, worst {row.cpu_seconds_worst:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Config))
