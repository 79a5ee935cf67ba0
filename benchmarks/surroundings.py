"""Queries in unknown surroundings: is the object found, is a wrong pose trusted, what does it cost?

    python -m benchmarks.surroundings --models out/valve out/tin --queries data/valve_room ...

Each folder of queries is a capture of the same object in the same frame, with known poses, in a
room. A coarse pose is near within 15 degrees and 15 % of the distance; a pose is found within
1 degree and 0.02 units, and wrong more than 5 degrees or 5 % of the distance off. `--others` are
captures without the object: no pose there may be trusted.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import tyro
from torch import Tensor

from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.presets import DETECTION
from pose_estimation import Hypothesis, object_extent, rotation_error, translation_error
from scene import InputError, read_capture, read_image, read_queries, true_poses

_NEAR = math.radians(15.0), 0.15  # of the rotation, and of the distance
_FOUND = math.radians(1.0), 0.02  # and units
_WRONG = math.radians(5.0), 0.05  # of the rotation, and of the distance: farther off
_HEAD = (
    "object | queries | near among first 1, 4, 8 of gradients | found | refused | "
    "wrong and trusted | CPU s, worst"
)


@dataclass(frozen=True)
class Config:
    """Command line."""

    models: tuple[Path, ...]
    """Model folders."""
    queries: tuple[Path, ...]
    """Captures whose queries are located, one for each model."""
    others: tuple[Path, ...] = ()
    """Captures of other things, shown to every model."""
    most: int = 1000
    """Queries of each capture, at most; an even choice."""
    threads: int = 1


def main(config: Config) -> None:
    """Prints a row for each model as it is done. Raises InputError when a folder does not fit."""
    if len(config.models) != len(config.queries):
        raise InputError("give as many folders of queries as models")
    torch.set_num_threads(config.threads)
    print(_HEAD)
    for path, queries in zip(config.models, config.queries, strict=True):
        preset = DETECTION["default"]
        settings = InspectionSettings(preset, torch.device("cpu"), threads=config.threads)
        inspector = open_inspector(ModelFolder(path), settings)
        print(_row(inspector, queries, config.most), flush=True)
        for other in config.others:
            print(_others_row(inspector, other, config.most), flush=True)


class _Located(NamedTuple):
    """One query."""

    rank: float  # of the first hypothesis near the true pose; inf if there is none
    is_found: bool
    is_wrong: bool  # not a little off, but elsewhere
    is_trusted: bool
    seconds: float  # of the processor


def _row(inspector: Inspector, queries: Path, most: int) -> str:
    """The figures of queries with known poses."""
    capture = read_capture(queries)
    truth = true_poses(capture)
    known = [query for query in capture.queries if query.name in truth]
    some = known[:: max(1, len(known) // most)][:most]
    return _line(inspector.name, [_locate(inspector, q.image_path, truth[q.name]) for q in some])


def _others_row(inspector: Inspector, other: Path, most: int) -> str:
    """The figures of queries that do not show the object."""
    queries = read_queries(other)
    some = queries[:: max(1, len(queries) // most)][:most]
    found = [_locate(inspector, query.image_path, None) for query in some]
    return _line(f"{inspector.name} before {other.name}", found)


def _locate(inspector: Inspector, path: Path, truth: Tensor | None) -> _Located:
    """The search in surroundings on one image, whatever stands behind its object."""
    search = inspector.search
    if search is None:
        raise InputError(f"'{inspector.name}' is a model of a whole scene: its queries show it all")
    camera = inspector.camera
    image = read_image(path, (camera.width, camera.height))
    began = time.process_time()
    try:
        _, pose = search(image)
    except InputError:  # nothing to start from: refused
        return _Located(math.inf, False, True, False, time.process_time() - began)
    seconds = time.process_time() - began
    if truth is None:
        return _Located(math.inf, False, True, bool(pose.pose_ok), seconds)
    angle = float(rotation_error(pose.world_to_camera, truth))
    shift = float(translation_error(pose.world_to_camera, truth))
    is_found = angle < _FOUND[0] and shift < _FOUND[1]
    centre = object_extent(inspector.model.gaussians)[0].double()
    away = float((truth[:3, :3] @ centre + truth[:3, 3]).norm())
    is_wrong = angle > _WRONG[0] or shift > _WRONG[1] * away
    rank = _rank(search.matchers[-1].coarse_poses(image, camera), truth, inspector)
    return _Located(rank, is_found, is_wrong, bool(pose.pose_ok), seconds)


def _rank(found: Sequence[Hypothesis], truth: Tensor, inspector: Inspector) -> float:
    """The place of the first hypothesis near the true pose; inf if there is none."""
    centre = object_extent(inspector.model.gaussians)[0].double()
    there = truth[:3, :3] @ centre + truth[:3, 3]
    for place, hypothesis in enumerate(found):
        pose = hypothesis.world_to_camera
        shift = pose[:3, :3] @ centre + pose[:3, 3] - there
        is_near = float(shift.norm()) < _NEAR[1] * float(there.norm())
        if is_near and float(rotation_error(pose, truth)) < _NEAR[0]:
            return place
    return math.inf


def _line(name: str, found: Sequence[_Located]) -> str:
    """One row of the table."""
    near = " ".join(str(sum(each.rank < count for each in found)) for count in (1, 4, 8))
    seconds = [each.seconds for each in found]
    refused = sum(not each.is_trusted for each in found)
    wrong = sum(each.is_wrong and each.is_trusted for each in found)
    spent = f"{statistics.median(seconds):.2f}, {max(seconds):.2f}"
    right = sum(each.is_found for each in found)
    return f"{name} | {len(found)} | {near} | {right} | {refused} | {wrong} | {spent}"


if __name__ == "__main__":
    main(tyro.cli(Config))
