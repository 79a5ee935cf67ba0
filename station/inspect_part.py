"""One inspection: photographs of one part, from their files to the answer and its pictures."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.groups import ObjectInspector
from pipeline.inspector import Inspection
from pipeline.results import Results
from report import encode_jpeg, panels
from scene import InputError, Query, atomic_write, printable
from scene.decode import read_header, read_pixels

from .models import OpenModel
from .queue import Answer

PICTURES = ("thumbnail", "query", "rendering", "map", "overlay")
_THUMBNAIL = 192  # pixels, longer side
_QUALITY = 90
_FLAGGED, _ROOM = (198, 47, 56), 4  # colour of the frame around a region, pixels between the two
_VERDICTS = {True: "defective", False: "good", None: "unknown"}


@dataclass(frozen=True)
class Photograph:
    """One photograph of the part."""

    path: Path
    name: str  # the client's


def picture_path(root: Path, key: str, number: int, picture: str) -> Path:
    """Where a picture lies; `root` is `StationSettings.pictures`."""
    return root / key[:2] / key / f"{number:d}-{picture}.jpg"


def scene_path(root: Path, key: str) -> Path:
    """Where the scene of the 3D viewer lies, when somebody asked for it."""
    return root / key[:2] / key / "scene.json"


def inspect_part(
    model: OpenModel,
    photographs: Sequence[Photograph],
    root: Path,  # for the maps and pictures of this inspection
    max_pixels: int,
    version: int | None,  # of the threshold
    progress: Callable[[str], None],
) -> Answer:
    """Verdict, pose and regions, those of detect.py to the bit; writes maps and pictures.

    What is wrong with a photograph stands in its entry. Raises InputError when the disk is full.
    """
    started = time.perf_counter()
    threshold = model.inspector.threshold
    results = Results(root, threshold, {}, model.inspector.world, None, model.inspector.lens)
    exposures: list[float | None] = []
    for number, photograph in enumerate(photographs):
        if len(photographs) > 1:
            progress(f"photograph {number + 1} of {len(photographs)}")
        found = _inspect(model, photograph, max_pixels)
        results.add(Query(str(number), photograph.path), found)
        _write_pictures(root, number, found, model, None if threshold is None else threshold.value)
        exposures.append(_exposure(model, photograph.path, found))
    document: dict[str, Any] = {"images": results.entries}
    if len(photographs) > 1:
        progress("all photographs together")
        document["object"] = _object(model, results, root)
    answer = _answer(document, model)
    for entry, photograph in zip(results.entries, photographs, strict=True):
        _for_clients(entry, photograph)
    return Answer(
        **answer, document=document, threshold_version=version, model_hash=model.digest,
        exposure=next((each for each in exposures if each is not None), None),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _inspect(model: OpenModel, photograph: Photograph, max_pixels: int) -> Inspection:
    """One photograph; what is too large is not decoded."""
    try:
        width, height = read_header(photograph.path).size
    except InputError as error:
        return Inspection(photograph.path, str(error))
    if width * height > max_pixels:
        return Inspection(
            photograph.path,
            f"'{photograph.path}' has {width} x {height} pixels, more than the {max_pixels:,} "
            "that the station decodes: reduce it",
        )
    return model.inspector.inspect([photograph.path])[0]


def _object(model: OpenModel, results: Results, root: Path) -> dict[str, Any]:
    """What several photographs say together."""
    try:
        together = ObjectInspector(model.inspector, model.objects(), root)
    except InputError as error:
        note = f"no verdict on the part: {str(error).removeprefix('--group-by: ')}"
        return {"is_anomalous": None, "score": None, "threshold": None, "note": note,
                "regions": []}  # fmt: skip
    return together.inspect("part", results.queries, results.entries)


def _answer(document: dict[str, Any], model: OpenModel) -> dict[str, Any]:
    """Verdict, score, threshold and pose residual of a document."""
    images, together = document["images"], document.get("object")
    scored = [entry for entry in images if entry["score"] is not None]
    losses = [entry["pose_loss"] for entry in scored if entry["pose_loss"] is not None]
    loss = max(losses, default=None)
    if not scored:
        return {"verdict": "error", "pose_loss": None}
    if together is not None:
        return {
            "verdict": _VERDICTS[together["is_anomalous"]], "score": together["score"],
            "threshold": together["threshold"], "pose_loss": loss,
        }  # fmt: skip
    limit = model.inspector.threshold
    return {
        "verdict": _VERDICTS[images[0]["is_anomalous"]], "score": images[0]["score"],
        "threshold": None if limit is None else limit.value, "pose_loss": loss,
    }  # fmt: skip


def _for_clients(entry: dict[str, Any], photograph: Photograph) -> None:
    """The photograph by its own name: no path of this machine goes out."""
    own = str(photograph.path)
    entry.pop("path")
    entry["name"] = photograph.name
    if entry["error"] is not None:
        entry["error"] = entry["error"].replace(printable(own), photograph.name)


def _write_pictures(
    root: Path, number: int, found: Inspection, model: OpenModel, limit: float | None
) -> None:
    if found.image is None or found.rendering is None or found.anomaly_map is None:
        return
    if not math.isfinite(found.score or 0.0):
        return
    import cv2

    flagged = None if limit is None else found.anomaly_map >= limit
    photograph = found.image if found.photograph is None else found.photograph
    drawn = panels(photograph, found.rendering, found.anomaly_map, model.scale, None, flagged)
    pictures = dict(zip(PICTURES[1:], drawn, strict=True))
    height, width = pictures["query"].shape[:2]
    share = min(1.0, _THUMBNAIL / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = cv2.resize(pictures["query"], size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    for region in found.regions:
        x, y, across, down = (round(share * value) for value in region["bbox"])
        first, last = (x - _ROOM, y - _ROOM), (x + across + _ROOM, y + down + _ROOM)
        cv2.rectangle(small, first, last, _FLAGGED, 2)
    pictures["thumbnail"] = small
    for name, image in pictures.items():
        with atomic_write(root / f"{number}-{name}.jpg") as file:
            file.write(encode_jpeg(image, _QUALITY))


@torch.no_grad()
def _exposure(model: OpenModel, path: Path, found: Inspection) -> float | None:
    """Brightness of a photograph against the model's rendering at its pose; 1: as in training."""
    if found.pose is None or found.pose.pose_ok is False:
        return None
    pixels = read_pixels(path)
    if pixels.white is None or pixels.values.shape[2] == 4:  # cut out: what stands behind is lost
        return None
    inspector = model.inspector
    camera = inspector.camera.at(found.pose.world_to_camera)
    expected = float(inspector.model(camera).image.clamp(0.0, 1.0).mean())
    measured = float(np.mean(pixels.values[::2, ::2, :3], dtype=np.float64)) / pixels.white
    return measured / max(expected, 1e-6)
