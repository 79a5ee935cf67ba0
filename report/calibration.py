"""What a calibration says, arranged for the page: calibration.html of a model folder."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer import contributions
from pipeline.calibration import Calibration, CalibrationViews
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.object_calibration import held_out_map
from pose_estimation import load_gallery
from scene import Camera, damage_named

from .directions import direction_map
from .overlay import encode_jpeg, overlay
from .page import Report, ReportImage, Value
from .run_in_3d import RunIn3D, add_usual_residual
from .training_pictures import newest_picture
from .viewer_data import SEEN, ViewerData

_SHOWN = 12  # worst views, as images
_RATES = (0.05, 0.02, 0.01, 0.005)
_COUNTED = 32  # train views of which places are said to be seen or not
_LEAST = 0.05  # pixels of a Gaussian in an image, from which on it is seen


def calibration_report(inspector: Inspector, folder: ModelFolder) -> Report:
    """The report of a calibrated model folder.

    Raises InputError when a file of it is damaged.
    """
    config = folder.load_config()
    calibration = folder.load_calibration(config["settings"]["iterations"])
    gallery = load_gallery(folder.gallery_path)
    train = [gallery.camera(view) for view in range(len(gallery))]
    views = CalibrationViews([], [])
    if folder.calibration_views_path.is_file():
        with damage_named(folder.calibration_views_path, "run calibrate.py"):
            views = CalibrationViews.load(folder.calibration_views_path)
    names = _names(views, config["held_out"])
    images, in_3d = _held_out(inspector, views, names, train)
    threshold, scores = inspector.threshold, inspector.scores
    quality = config.get("held_out_quality") or {}
    figures: dict[str, Value] = {
        "dB inside held-out views": quality.get("psnr_object") or quality.get("psnr"),
        "pixels between input and found poses": calibration.pose_shift,
        "Gaussians": len(inspector.model.gaussians),
        "train views": len(train),
        "held-out scores": 0 if scores is None else len(scores.scores),
    }
    return Report(
        title=f"{inspector.name}: calibration",
        images=images,
        threshold=None if threshold is None else threshold.value,
        threshold_note=_why_none(calibration) if threshold is None else threshold.message,
        figures={name: value for name, value in figures.items() if value is not None},
        tables=_tables(inspector),
        notes=[*inspector.notes, *_left_out(calibration)],
        in_3d=in_3d,
        heading="Held-out views, the worst first",
        scores=None if scores is None else {"good": scores.scores},
        directions=direction_map(gallery.centre, train, views.cameras),
        progress=newest_picture(folder.progress_path),
    )


def _names(views: CalibrationViews, held_out: Sequence[str]) -> list[str]:
    """Names of the views: those of the capture where all of them were found again."""
    count = len(views) - views.photographs
    own = list(held_out) if count == len(held_out) else [f"held out {n + 1}" for n in range(count)]
    return own + [f"photograph {n + 1}" for n in range(views.photographs)]


def _held_out(
    inspector: Inspector, views: CalibrationViews, names: Sequence[str], train: Sequence[Camera]
) -> tuple[list[ReportImage], RunIn3D]:
    """The views as images, and the object with them in 3D.

    The normal model that is kept was fitted to these very views: their maps are raised to the
    scores of the same rank, which were given without it.
    """
    model, scorer = inspector.model, inspector.scorer
    known = len(views) - views.photographs
    maps = [
        held_out_map(scorer, image.to(model.background).div(255), camera, number < known)
        for number, (image, camera) in enumerate(zip(views.images, views.cameras, strict=True))
    ]  # fmt: skip
    highest = np.array([float(each.max()) for each in maps])
    scores = highest
    if inspector.scores is not None and len(maps):
        ranks = highest.argsort().argsort() / max(1, len(highest) - 1)
        scores = np.quantile(inspector.scores.scores, ranks)
    limit = inspector.threshold.value if inspector.threshold else float(scores.max(initial=1e-6))
    data = ViewerData(model.gaussians, train[0], model.background.tolist())
    for number, camera in enumerate(train):
        data.add_train(f"train view {number + 1}", camera.world_to_camera)
    worst = set(np.argsort(-scores)[:_SHOWN].tolist())
    images: list[ReportImage] = []
    for number, camera in enumerate(views.cameras):
        raised = maps[number] * (scores[number] / max(highest[number], 1e-6))
        shown = _panels(inspector, views.images[number], camera, raised, limit)
        images.append(
            ReportImage(
                names[number],
                float(scores[number]),
                flagged=None if inspector.threshold is None else bool(scores[number] > limit),
                overlay=shown if number in worst else None,
                number_in_3d=data.add_image(names[number], camera.world_to_camera),
            )
        )
    _add_layers(data, inspector, train)
    empty = torch.full((len(model.gaussians),), torch.nan)
    numbers = [image.number_in_3d for image in images]
    return images, RunIn3D(data.as_json(), numbers, "", empty, data.heat_range)


@torch.no_grad()
def _panels(
    inspector: Inspector, pixels: Tensor, camera: Camera, anomaly_map: Tensor, limit: float
) -> bytes:
    """Query, rendering, map and overlay as JPEG."""
    image, rendering = pixels.float() / 255, inspector.model(camera).image
    values = anomaly_map.cpu()
    return encode_jpeg(overlay(image, rendering, values, 2 * limit, None, values >= limit))


def _add_layers(data: ViewerData, inspector: Inspector, train: Sequence[Camera]) -> None:
    """How many train views see each place, and the usual residual there."""
    chosen = train[:: max(1, len(train) // _COUNTED)]
    poses = torch.stack([camera.world_to_camera for camera in chosen])
    seen = (contributions(inspector.model, train[0], poses) >= _LEAST).sum(dim=0).float().cpu()
    title = f"train views that see this place, of {len(chosen)}"
    data.add_layer("seen", title, seen, (0.0, max(1.0, float(seen.max()))), SEEN)
    add_usual_residual(data, inspector)


def _tables(inspector: Inspector) -> dict[str, dict[str, dict[str, Value]]]:
    """The threshold of several false-alarm rates."""
    if inspector.scores is None:
        return {}
    rows: dict[str, dict[str, Value]] = {}
    for rate in _RATES:
        threshold = inspector.scores.threshold(rate)
        rows[f"{100 * rate:g} %"] = {
            "threshold": threshold.value,
            "promised": threshold.promised,
        }
    return {"Thresholds by false-alarm rate": rows}


def _why_none(calibration: Calibration) -> str:
    return (
        f"No threshold, so detect.py gives scores but no verdicts: "
        f"{calibration.unfit or 'too few held-out views were found again'}."
    )


def _left_out(calibration: Calibration) -> list[str]:
    """What the calibration stands on beside the held-out views, and what not."""
    notes = ["maps below are raised to the views' scores, which were given without them"]
    if calibration.left_out:
        notes.append(f"left out, at wrong poses: {', '.join(calibration.left_out)}")
    if calibration.good:
        notes.append(f"photographs of good parts: {calibration.good}")
    return notes
