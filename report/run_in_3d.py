"""A detection run in 3D: its maps carried onto the Gaussians, its cameras, its defects as markers.

The maps are read back from maps/, one at a time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anomaly import NormalModelScorer, project, surface_areas
from anomaly.mahalanobis import DIAGONAL
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pose_estimation import load_gallery
from scene import Camera, damage_named

from .viewer_data import SEEN, ViewerData

_AREA_VIEWS = 24  # train views that say how large the area of each Gaussian is
_CARRIED = 150  # images whose maps are carried onto the Gaussians, the highest scores first
_MARKERS = 200  # regions of the highest peaks
_COLD = 0.4  # times the threshold: below it a place keeps its own colours


@dataclass(frozen=True)
class RunIn3D:
    """What the report shows in its 3D view."""

    document: dict[str, Any]  # of viewer_data.py
    numbers: list[int | None]  # place of each image of the run in it; None: it has no trusted pose
    note: str  # which images the colours come from
    highest: Tensor  # [N] largest map value at each Gaussian, NaN where no image sees it
    limits: tuple[float, float]  # map values of the coldest and the hottest colour


@torch.no_grad()
def run_in_3d(
    inspector: Inspector,
    folder: ModelFolder,
    entries: list[dict[str, Any]],  # of results.json
    root: Path,  # of the run, with maps/
    scale: float,  # map value of the hottest colour: twice the threshold
) -> RunIn3D:
    """Raises InputError when a map or the gallery cannot be read."""
    gallery = load_gallery(folder.gallery_path)
    cameras = [gallery.camera(view) for view in range(len(gallery))]
    shown = [
        n for n, e in enumerate(entries) if e["score"] is not None and e["pose_ok"] is not False
    ]
    ranked = sorted(shown, key=lambda number: -entries[number]["score"])
    start = _camera_of(entries[ranked[0]], inspector) if ranked else cameras[0]
    limit = scale / 2
    data = ViewerData(
        inspector.model.gaussians,
        start,
        inspector.model.background.tolist(),
        (_COLD * limit, scale),
    )
    for view, camera in enumerate(cameras):
        data.add_train(f"train view {view + 1}", camera.world_to_camera)
    step = max(1, len(cameras) // _AREA_VIEWS)
    carried = _Carried(inspector, surface_areas(inspector.model, cameras[::step]), root, limit)
    numbers: list[int | None] = [None] * len(entries)
    peaks: dict[int, int] = {}  # by number in the document, the Gaussian that differs most
    for rank, number in enumerate(ranked):
        entry = entries[number]
        values = carried.add(entry) if rank < _CARRIED else None
        pose = _camera_of(entry, inspector).world_to_camera
        worth = entry["score"] > _COLD * limit
        place = data.add_image(entry["name"], pose, values if worth else None)
        numbers[number] = place
        if values is not None:
            peaks[place] = int(values.nan_to_num(nan=-1.0).argmax())
    _add_layers(data, carried, inspector, scale)
    _add_markers(data, entries, numbers, peaks, inspector)
    note = f"The {_CARRIED} of {len(ranked)} images with the highest scores are shown as heat."
    note = note if len(ranked) > _CARRIED else ""
    return RunIn3D(data.as_json(), numbers, note, carried.highest, data.heat_range)


class _Carried:
    """What the maps of several images say of each Gaussian; one map is in memory at a time."""

    def __init__(self, inspector: Inspector, areas: Tensor, root: Path, limit: float) -> None:
        self.inspector, self.areas, self.root, self.limit = inspector, areas, root, limit
        self.highest = torch.full((len(areas),), torch.nan)  # [N], NaN where no image sees it
        self.flagged, self.seen = torch.zeros(len(areas)), torch.zeros(len(areas))  # images, [N]

    def add(self, entry: dict[str, Any]) -> Tensor:
        """The map of one more image on the Gaussians, [N]."""
        path = self.root / entry["map"]
        with (
            damage_named(path, "run detect.py again into another folder"),
            Image.open(path) as file,
        ):
            values = torch.from_numpy(np.array(file, np.float32)).to(self.areas)
        camera = _camera_of(entry, self.inspector)
        found = project(self.inspector.model, camera, values, self.areas).float()
        self.highest = torch.fmax(self.highest, found)
        self.flagged += found >= self.limit
        self.seen += ~found.isnan()
        return found


def _camera_of(entry: dict[str, Any], inspector: Inspector) -> Camera:
    """The camera of an image in the model's frame."""
    pose = torch.tensor(entry["world_to_camera"], dtype=torch.float64)
    return inspector.camera.at(inspector.world.into_model(pose))


def _add_layers(data: ViewerData, carried: _Carried, inspector: Inspector, scale: float) -> None:
    """Colourings of the whole run."""
    if carried.seen.any():
        data.add_layer(
            "heat", "largest difference in any image", carried.highest, data.heat_range, fade=0.5
        )
        most = max(1.0, float(carried.flagged.max()))
        data.add_layer("count", "images flagged here", carried.flagged, (0.0, most))
        seen = torch.where(carried.seen > 0, carried.seen, torch.nan)
        most = float(carried.seen.max())
        data.add_layer("seen", "images that see this place", seen, (0.0, most), SEEN)
    add_usual_residual(data, inspector)
    if inspector.zones is not None:
        factors = inspector.zones.of_gaussians().cpu()
        most = max(2.0, float(factors.nan_to_num(0.0).max()))
        data.add_layer("zones", "zones: factor on the map", factors, (0.0, most), SEEN)


def add_usual_residual(data: ViewerData, inspector: Inspector) -> None:
    """How much good images differ at each place, where a normal model knows it."""
    if not isinstance(inspector.scorer, NormalModelScorer):
        return
    moments = inspector.scorer.known.moments.common.cpu()
    usual = moments[:, DIAGONAL].mean(dim=1).clamp_min(0.0).sqrt()
    ordered = usual.sort().values
    most = max(float(ordered[int(0.99 * (len(ordered) - 1))]), 1e-6)
    data.add_layer("residual", "usual residual of good images", usual, (0.0, most), SEEN)


def _add_markers(
    data: ViewerData,
    entries: list[dict[str, Any]],
    numbers: list[int | None],
    peaks: dict[int, int],
    inspector: Inspector,
) -> None:
    """One marker a flagged region, or where a flagged image without a listed one differs most."""
    found: list[tuple[float, list[float], int]] = []  # peak, place, image
    cameras: dict[int, Camera] = {}
    for entry, number in zip(entries, numbers, strict=True):
        if number is None or not entry["is_anomalous"]:
            continue
        cameras[number] = _camera_of(entry, inspector)
        for region in entry["regions"]:
            found.append((region["peak"], _place(region, cameras[number], inspector), number))
        if not entry["regions"] and number in peaks:
            place = inspector.model.gaussians.means[peaks[number]].tolist()
            found.append((entry["score"], place, number))
    found.sort(key=lambda each: -each[0])
    for peak, place, number in found[:_MARKERS]:
        title = f"{data.images[number]['name']}, peak {peak:.4g}"
        data.add_marker(place, title, number, cameras[number].centre.tolist())


def _place(region: dict[str, Any], camera: Camera, inspector: Inspector) -> list[float]:
    """Where a region lies in the model's frame, [3].

    One beside the silhouette (a burr) lies on the ray through its centroid, as deep as the place of
    the object that is nearest to it in the image.
    """
    if region["position"] is not None:
        point = torch.tensor([region["position"]], dtype=torch.float64)
        return inspector.world.points_into_model(point)[0].tolist()
    x, y = region["centroid"]
    gaussians = inspector.model.gaussians
    columns, rows, depths = camera.project(gaussians.means.double())
    far = (columns - x).square() + (rows - y).square()
    far[(depths <= 0) | (gaussians.opacities < 0.5)] = torch.inf
    depth = float(depths[far.argmin()])
    ray = torch.tensor(
        [(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, 1.0], dtype=torch.float64
    )
    rotation, translation = camera.world_to_camera[:3, :3], camera.world_to_camera[:3, 3]
    return (rotation.T @ (depth * ray - translation)).tolist()
