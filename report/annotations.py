"""Flagged regions for other tools: COCO annotations, and one mask an image as MVTec AD has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scene import atomic_write, damage_named, file_name, write_json

SMALLEST = 9  # pixels; smaller regions are left out, as in results.json


@dataclass(frozen=True)
class Written:
    """What was written of a run."""

    images: int  # that were scored
    masks: int
    regions: int


def write_annotations(
    entries: Sequence[dict[str, Any]],  # of results.json
    root: Path,  # of the run, with maps/
    limit: float,  # map value from which on a pixel is flagged
    folder: Path,  # gets coco.json and ground_truth/<name>_mask.png
) -> Written:
    """Writes the regions of the images that were called anomalous; the others are listed empty.

    Pixels are those of the maps (the size of the model's train views, without lens distortion).
    Raises InputError when a map cannot be read or the disk is full.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    masks = 0
    for entry in entries:
        if entry["map"] is None:
            continue
        path = root / entry["map"]
        with (
            damage_named(path, "run detect.py again into another folder"),
            Image.open(path) as file,
        ):
            values = np.array(file, np.float32)
        height, width = values.shape
        name = entry["name"] + PurePath(entry["path"]).suffix
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height,
                       "score": entry["score"]})  # fmt: skip
        if not entry["is_anomalous"]:
            continue
        mask = _large(values >= limit)
        found = _regions(mask, values)
        start = len(annotations) + 1
        common = {"image_id": images[-1]["id"], "category_id": 1, "iscrowd": 0}
        annotations += [{"id": start + n, **common, **each} for n, each in enumerate(found)]
        with atomic_write(folder / "ground_truth" / f"{file_name(entry['name'])}_mask.png") as file:
            Image.fromarray(mask.astype(np.uint8) * 255).save(file, format="PNG")
        masks += 1
    categories = [{"id": 1, "name": "anomaly", "supercategory": ""}]
    document = {"info": {"description": "regions flagged by SplatPose"}, "licenses": [],
                "images": images, "annotations": annotations, "categories": categories}  # fmt: skip
    write_json(folder / "coco.json", document)
    return Written(len(images), masks, len(annotations))


def _large(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask [H, W] without specks."""
    _, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    kept = figures[:, cv2.CC_STAT_AREA] >= SMALLEST
    kept[0] = False  # the rest of the image
    return kept[labels]


def _regions(mask: NDArray[np.bool_], values: NDArray[np.float32]) -> list[dict[str, Any]]:
    """COCO's fields of each connected region, the highest peak first.

    Outlines run along the borders of the pixels: those of the mask at twice its size, within a
    quarter of a pixel. Holes are not cut out of them; `area` counts pixels without holes.
    """
    count, labels, figures, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    regions = []
    for label in range(1, count):
        inside = labels == label
        double = np.kron(inside, np.ones((2, 2), bool)).astype(np.uint8)
        outlines, _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        x, y, width, height, area = figures[label].tolist()
        regions.append({
            "bbox": [x, y, width, height],
            "area": area,
            "segmentation": [((line.reshape(-1) + 0.5) / 2).tolist() for line in outlines],
            "score": float(values[inside].max()),
        })  # fmt: skip
    return sorted(regions, key=lambda region: -region["score"])
