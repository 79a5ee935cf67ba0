"""From how far away each refinement still finds the pose.

    python -m benchmarks.pose_basin --model out/brick_dog --source data/brick_dog --json basin.json

Turns the camera of held-out train views about the object's centre by known angles, around random
axes, and refines from there. Prints a table of success shares (within 1 degree and 0.02 units) and
times; `--picture` draws them.
"""

import json
import math
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from pose_estimation import (
    Hypothesis,
    PoseSettings,
    estimate_pose,
    rotation_error,
    translation_error,
)
from pose_estimation.settings import Method
from pose_estimation.templates import object_extent
from scene import Camera, Gaussians, load_ply, read_capture, read_image, split_holdout
from scene.se3 import twist_exp

from .common import ANGLE_LIMIT, DISTANCE_LIMIT


@dataclass(frozen=True)
class Config:
    """Command line."""

    model: Path
    """Model folder written by train.py."""
    source: Path
    """The capture that it was trained on."""
    angles: tuple[float, ...] = (2, 5, 10, 15, 20, 30, 40)
    """Start errors, degrees."""
    methods: tuple[Method, ...] = ("lm", "adam", "auto")
    views: int = 8
    """Held-out views; each is disturbed once per angle."""
    seed: int = 0
    threads: int = 1
    json: Path | None = None
    """Where to write the results."""
    picture: Path | None = None
    """Where to draw them (PNG or SVG)."""


@dataclass(frozen=True)
class Row:
    """One method at one start error."""

    method: str
    degrees: float
    found: int
    tried: int
    seconds_median: float
    seconds_min: float


def main(config: Config) -> list[Row]:
    """Runs the study and returns its rows."""
    torch.set_num_threads(config.threads)
    ply = max(config.model.glob("point_cloud/iteration_*/point_cloud.ply"))
    gaussians = load_ply(ply)
    capture = read_capture(config.source)
    background = torch.tensor(capture.background or (1.0, 1.0, 1.0))
    held_out = split_holdout(capture.views)[1][: config.views]
    queries = [
        (
            view.camera,
            read_image(
                view.image_path,
                (view.camera.width, view.camera.height),
                tuple(background.tolist()),
            ),
        )
        for view in held_out
    ]
    rows = []
    for degrees in config.angles:
        for method in config.methods:
            settings = PoseSettings(method=method, schedule="official", threads=config.threads)
            row = _measure(gaussians, queries, background, degrees, settings, config.seed)
            print(f"{method:5s} {degrees:5.0f} deg  {row.found}/{row.tried}  "
                  f"{row.seconds_median:.2f} s")  # fmt: skip
            rows.append(row)
    if config.json is not None:
        config.json.write_text(json.dumps(_document(config, rows), indent=1) + "\n")
    if config.picture is not None:
        draw(rows, config.picture)
    print(table(rows))
    return rows


def _measure(
    gaussians: Gaussians,
    queries: list[tuple[Camera, Tensor]],
    background: Tensor,
    degrees: float,
    settings: PoseSettings,
    seed: int,
) -> Row:
    """Success and time of one method from one start error."""
    centre, _ = object_extent(gaussians)
    generator = torch.Generator().manual_seed(seed)
    found, seconds = 0, []
    for camera, image in queries:
        axis = torch.randn(3, generator=generator, dtype=torch.float64)
        start = turned(camera.world_to_camera, centre, axis, math.radians(degrees))
        began = time.perf_counter()
        estimate = estimate_pose(
            gaussians, camera, image, [Hypothesis(start, 1.0)], background, settings
        )
        seconds.append(time.perf_counter() - began)
        true = camera.world_to_camera
        close = rotation_error(estimate.world_to_camera, true) < ANGLE_LIMIT
        found += int(close and translation_error(estimate.world_to_camera, true) < DISTANCE_LIMIT)
    ordered = sorted(seconds)
    return Row(
        settings.method, degrees, found, len(queries), ordered[len(ordered) // 2], ordered[0]
    )


def turned(world_to_camera: Tensor, centre: Tensor, axis: Tensor, angle: float) -> Tensor:
    """The camera [4, 4] after the object was turned about `axis` [3] through its centre [3]."""
    motion = twist_exp(torch.cat([axis / axis.norm() * angle, torch.zeros_like(axis)]))
    motion[:3, 3] = centre - motion[:3, :3] @ centre
    return world_to_camera @ motion


def table(rows: list[Row]) -> str:
    """Markdown: one line per start error, one column per method."""
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = [
        "| start error | " + " | ".join(methods) + " |",
        "|---" * (len(methods) + 1) + "|",
    ]
    for degrees in dict.fromkeys(row.degrees for row in rows):
        cells = [
            f"{row.found} of {row.tried}, {row.seconds_median:.2f} s"
            for row in rows
            if row.degrees == degrees
        ]
        lines.append(f"| {degrees:.0f} deg | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Share of poses found against the start error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        shares = [100 * row.found / row.tried for row in mine]
        axes.plot([row.degrees for row in mine], shares, marker="o", label=method)
    axes.set(xlabel="start error, degrees", ylabel="poses found, %", ylim=(-3, 103))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _document(config: Config, rows: list[Row]) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "commit": commit,
        "machine": platform.processor() or platform.machine(),
        "threads": config.threads,
        "model": config.model.name,
        "angles": list(config.angles),
        "rows": [asdict(row) for row in rows],
    }


if __name__ == "__main__":
    main(tyro.cli(Config))
