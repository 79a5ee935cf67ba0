"""The places that a threshold flags, as a list that a person or a robot can act on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from scene import Camera, World


@dataclass(frozen=True)
class Region:
    """One connected region of flagged pixels; coordinates in pixels, x right, y down."""

    area: int  # pixels
    peak: float  # highest map value inside
    bbox: tuple[int, int, int, int]  # x, y, width, height
    centroid: tuple[float, float]  # x, y; the centre of pixel (i, j) is (i + 0.5, j + 0.5)


def find_regions(
    anomaly_map: ArrayLike,  # [H, W]
    threshold: float,
    minimal_area: int = 1,  # pixels; smaller regions are left out
) -> list[Region]:
    """8-connected regions where the map reaches the threshold (>=), highest peak first.

    Raises ValueError when the map is not [H, W].
    """
    from scipy import ndimage

    values = np.asarray(anomaly_map, float)
    if values.ndim != 2:
        raise ValueError(f"an anomaly map is [H, W], got {list(values.shape)}")
    labels, _ = ndimage.label(values >= threshold, structure=np.ones((3, 3), int))
    regions = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == index
        if inside.sum() < minimal_area:
            continue
        y, x = (axis.mean() + 0.5 for axis in np.nonzero(inside))
        regions.append(
            Region(
                area=int(inside.sum()),
                peak=float(values[rows, columns][inside].max()),
                bbox=(
                    columns.start,
                    rows.start,
                    columns.stop - columns.start,
                    rows.stop - rows.start,
                ),
                centroid=(float(x + columns.start), float(y + rows.start)),
            )
        )
    return sorted(regions, key=lambda region: -region.peak)


def region_positions(
    regions: Sequence[Region],
    depth: Tensor,  # [H, W] camera z of the object, 0 off it
    camera: Camera,  # at the estimated pose
    world: World,  # of the model
) -> list[list[float] | None]:
    """Place of each region's centroid on the object, [3] in the world of the capture's files.

    None where the object is not behind it (excess material beside it).
    """
    to_world = torch.linalg.inv(camera.world_to_camera)
    positions: list[list[float] | None] = []
    for region in regions:
        x, y = region.centroid
        z = float(depth[min(int(y), camera.height - 1), min(int(x), camera.width - 1)])
        point = torch.tensor(
            [(x - camera.cx) / camera.fx * z, (y - camera.cy) / camera.fy * z, z, 1.0],
            dtype=torch.float64,
        )
        place = world.points_into_files((to_world @ point)[:3])
        positions.append(place.tolist() if z > 0 else None)
    return positions
