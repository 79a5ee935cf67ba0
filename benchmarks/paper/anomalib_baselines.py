"""Baselines of anomalib (optional: pip install .[anomalib]): its models, our images and metrics.

anomalib needs torchvision, and its models download pre-trained backbones. They see the same train
views and queries as every other method, at the same size, and keep anomalib's own settings; what is
changed is written in the notes. Scores and maps are taken before anomalib's normalisation, which
would clip them to 0..1.
"""

import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image

from anomaly import PixelStatistics, evaluate, resize_maps
from benchmarks.paper.plan import ANOMALIB, Job, Settings
from gaussian_renderer import choose_device
from scene import (
    Camera,
    Capture,
    InputError,
    read_capture,
    read_image,
    read_mask,
    subset_views,
)

_EPOCHS = 100  # of models for which anomalib sets no number
_BATCH = 16  # images; models that want single images say so to anomalib


def run_anomalib(job: Job, settings: Settings) -> dict[str, Any]:
    """Trains and tests a model of anomalib: the same keys as a job of ours leaves.

    Raises InputError where anomalib is not installed.
    """
    _require()
    device, _ = choose_device(settings.device, settings.backend)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(job.seed)
    capture = read_capture(job.source, settings.resolution)
    views = subset_views(capture.views, job.share, job.seed)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        _save_all(capture, (view.image_path for view in views), root / "train")
        _save_all(capture, (query.image_path for query in capture.queries), root / "test")
        model = _model(job.method.removeprefix(ANOMALIB))
        engine = _engine(root, device)
        started = time.monotonic()
        engine.fit(model=model, datamodule=_train_data(root))
        trained = time.monotonic()
        scores, maps = _predict(engine, model, root / "test", capture.views[0].camera)
        ended = time.monotonic()
    each = (ended - trained) / max(1, len(scores))
    return {
        "training_seconds": trained - started,
        "views": [view.name for view in views],
        "detections": {"own": summarise(capture, scores, maps, each) | {"notes": _notes()}},
        "poses": None,
    }


def _require() -> None:
    try:
        import anomalib  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"methods anomalib-... need the package anomalib ({error}): pip install .[anomalib]"
        ) from error


def _notes() -> list[str]:
    import anomalib

    return [f"anomalib {anomalib.__version__}", f"at most {_EPOCHS} epochs",
            "seconds per image are a mean"]  # fmt: skip


def _save_all(capture: Capture, paths: Iterable[Path], folder: Path) -> None:
    """The images, as our method sees them, in files whose names keep their order."""
    folder.mkdir()
    camera, background = capture.views[0].camera, capture.background or (0.0, 0.0, 0.0)
    for number, path in enumerate(paths):
        image = read_image(path, (camera.width, camera.height), background)
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{number:06}.png")


def _model(name: str) -> Any:
    from anomalib.models import get_model

    return get_model(name, post_processor=False, evaluator=False, visualizer=False)


def _engine(root: Path, device: torch.device) -> Any:
    from anomalib.engine import Engine

    return Engine(
        default_root_dir=root / "runs", max_epochs=_EPOCHS, logger=False, devices=1,
        accelerator="gpu" if device.type == "cuda" else "cpu", enable_progress_bar=False,
        limit_val_batches=0,  # there is nothing to validate with
    )  # fmt: skip


def _train_data(root: Path) -> Any:
    """The train views, all of them; nothing of the test images is shown while training."""
    from anomalib.data import Folder

    return Folder(
        name="train", root=root, normal_dir="train", train_batch_size=_BATCH,
        eval_batch_size=_BATCH, num_workers=0, test_split_mode="none", val_split_mode="none",
    )  # fmt: skip


def _predict(
    engine: Any, model: Any, folder: Path, camera: Camera
) -> tuple[list[float], list[NDArray]]:
    """Scores and maps [H, W] of the queries in their order; no maps if the model makes none."""
    from anomalib.data import PredictDataset

    batches = engine.predict(
        model=model, dataset=PredictDataset(path=folder), return_predictions=True
    )
    scores: dict[str, float] = {}
    maps: dict[str, NDArray] = {}
    for batch in batches:
        for i, path in enumerate(batch.image_path):
            scores[path] = float(batch.pred_score[i])
            if batch.anomaly_map is not None:
                grid = batch.anomaly_map[i].detach().float().cpu()
                grid = grid.reshape(1, *grid.shape[-2:])
                maps[path] = resize_maps(grid, camera.height, camera.width)[0].numpy()
    return [scores[path] for path in sorted(scores)], [maps[path] for path in sorted(maps)]


def summarise(
    capture: Capture,
    scores: Sequence[float],  # of the queries, in their order
    maps: Sequence[NDArray],  # [H, W] of the queries; empty: the model makes none
    seconds: float,  # per image
) -> dict[str, Any]:
    """The figures of a baseline, with the keys and metrics of a detection run of ours."""
    camera, queries = capture.views[0].camera, capture.queries
    size = camera.width, camera.height
    masks = [None if q.mask_path is None else read_mask(q.mask_path, size).numpy() for q in queries]
    labels, kinds = [q.is_anomalous for q in queries], [q.label for q in queries]
    figures = evaluate(
        scores, labels, kinds, PixelStatistics.of(maps, masks, labels, kinds) if maps else None
    )
    return {
        "image_auroc": figures["image"]["auroc"],
        "pixel_auroc": figures["pixel"]["auroc"],
        "aupro": figures["pixel"]["aupro_0.3"],
        "aupro_0.05": figures["pixel"]["aupro_0.05"],
        "n_images": len(scores),
        "n_failed": 0,
        "seconds": {"coarse": None, "refine": None, "score": None, "total": seconds},
    }
