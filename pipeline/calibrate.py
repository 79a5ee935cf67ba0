"""After training, with the frozen model: what the coarse stage needs, and what normal looks like."""

from collections.abc import Sequence

from torch import Tensor

from pose_estimation import build_gallery, save_gallery
from scene import Capture, Gaussians, View

from .model_folder import ModelFolder
from .optimise import Optimisation, read_views
from .quality import held_out_quality
from .start import silhouettes


def calibrate(
    folder: ModelFolder,
    gaussians: Gaussians,
    held_out: tuple[View, ...],
    run: Optimisation,
) -> dict[str, float | None]:
    """Writes gallery and calibration; returns the quality on the held-out views."""
    images = _floats(read_views(run.capture, run.views))
    kept = _floats(read_views(run.capture, held_out))
    quality = held_out_quality(
        gaussians, [view.camera for view in held_out], kept,
        _silhouettes(run.capture, held_out, kept), run.background, run.backend, run.threads,
    )  # fmt: skip
    gallery = build_gallery(
        gaussians, [view.camera for view in run.views], images,
        _silhouettes(run.capture, run.views, images),
        None if run.capture.background is None else run.background,
        backend=run.backend, threads=run.threads,
    )  # fmt: skip
    save_gallery(gallery, folder.gallery_path)
    return quality


def _floats(images: Sequence[Tensor]) -> list[Tensor]:
    return [image.float().div_(255) for image in images]


def _silhouettes(
    capture: Capture, views: Sequence[View], images: Sequence[Tensor]
) -> list[Tensor] | None:
    return None if capture.background is None else silhouettes(capture, views, images)
