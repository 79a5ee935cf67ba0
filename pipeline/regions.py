"""Where on the object a defect lies."""

from dataclasses import asdict
from typing import Any

import torch

from anomaly import find_regions
from scene import World

from .inspector import Inspection, Inspector

_SMALLEST = 9  # pixels; smaller specks are not listed


@torch.no_grad()
def placed_regions(
    found: Inspection, inspector: Inspector, threshold: float, world: World
) -> list[dict[str, Any]]:
    """Flagged regions of one query as JSON values, the highest peak first.

    `position` [3] is the place of the region's centroid in the world of the capture's files, by the
    depth of the splat; None where the object is not behind it (excess material beside it).
    """
    regions = find_regions(found.anomaly_map.numpy(), threshold, _SMALLEST)
    if not regions:
        return []
    camera = inspector.camera.at(found.pose.world_to_camera)
    depth = inspector.model(camera, depth=True).depth
    assert depth is not None
    depth = depth.cpu()
    to_world = torch.linalg.inv(camera.world_to_camera)
    listed = []
    for region in regions:
        x, y = region.centroid
        z = float(depth[min(int(y), camera.height - 1), min(int(x), camera.width - 1)])
        point = torch.tensor(
            [(x - camera.cx) / camera.fx * z, (y - camera.cy) / camera.fy * z, z, 1.0],
            dtype=torch.float64,
        )
        place = world.points_into_files((to_world @ point)[:3])
        position = place.tolist() if z > 0 else None
        listed.append(asdict(region) | {"position": position})
    return listed
