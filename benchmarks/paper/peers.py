"""Peers on the same images and metrics: PaDiM, PatchCore and Mahalanobis, in their plain form.

They know no poses: each learns what patches (or whole images) of the train views look like.
Sources: PaDiM (Defard et al. 2021), PatchCore (Roth et al. 2022), Mahalanobis (Rippel et al. 2021).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from anomaly import evaluate, resize_maps
from anomaly.filters import gaussian_blur
from benchmarks.paper.jobs import Job, Settings
from benchmarks.paper.peer_features import PatchFeatures, patch_features
from gaussian_renderer.backends import choose_device
from scene import Camera, Capture, InputError, View, read_capture, read_image, read_mask
from scene import subset_views as draw_views

_SIGMA = 4.0  # pixels, blur of the maps
_CHANNELS = 100  # PaDiM keeps so many channels, drawn at random
_RIDGE = 0.01  # PaDiM: added to the covariance
_CORESET = 0.01  # PatchCore: share of the patches that is remembered
_PROJECTED = 64  # PatchCore: dimensions in which the coreset is picked
_CANDIDATES = 100_000  # PatchCore: patches that the coreset is picked from
_LEAST, _MOST = 64, 2000  # PatchCore: limits of the number of patches that is remembered


class Judgement(NamedTuple):
    """What a peer says of one image."""

    score: float
    anomaly_map: Tensor | None  # [h, w]; None: the peer makes none


Judge = Callable[[Tensor], Judgement]  # of descriptors [C, h, w]


def fit_padim(train: Tensor, seed: int) -> Judge:  # train [B, C, h, w]
    """A normal distribution of the descriptors at every place; the score is the largest distance.

    Parts of the images must stay at their place for this to work: it does not where poses vary.
    """
    channels = _drawn(train.shape[1], _CHANNELS, seed)
    points = train[:, channels].flatten(2).permute(2, 0, 1).double()  # [P, B, C]
    mean = points.mean(1, keepdim=True)
    spread = (points - mean).transpose(1, 2) @ (points - mean) / max(1, len(train) - 1)
    scale = spread.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    ridge = _RIDGE * scale * torch.eye(len(channels), dtype=spread.dtype)
    inverse = torch.linalg.inv(spread + ridge)

    def judge(descriptors: Tensor) -> Judgement:
        offset = descriptors[channels].flatten(1).T.double() - mean[:, 0]
        squared = torch.einsum("pc,pcd,pd->p", offset, inverse, offset)
        grid = squared.clamp_min(0.0).sqrt().reshape(descriptors.shape[1:]).float()
        return Judgement(float(grid.max()), grid)

    return judge


def fit_patchcore(train: Tensor, seed: int) -> Judge:  # train [B, C, h, w]
    """Distance of each patch to the nearest of a coreset of the train patches."""
    from sklearn.neighbors import NearestNeighbors

    patches = train.permute(0, 2, 3, 1).flatten(0, 2)  # [B * h * w, C]
    count = min(_MOST, max(_LEAST, round(_CORESET * len(patches))))
    patches = patches[_drawn(len(patches), _CANDIDATES, seed)]
    chosen = coreset(patches, count, seed)
    memory = NearestNeighbors(n_neighbors=1).fit(patches[chosen].numpy())

    def judge(descriptors: Tensor) -> Judgement:
        distances, _ = memory.kneighbors(descriptors.flatten(1).T.numpy())
        grid = torch.from_numpy(distances[:, 0]).reshape(descriptors.shape[1:]).float()
        return Judgement(float(grid.max()), grid)

    return judge


def fit_mahalanobis(train: Tensor, seed: int) -> Judge:  # train [B, C, h, w]
    """Distance of the mean descriptor of an image to those of the train views; makes no map."""
    from sklearn.covariance import LedoitWolf

    model = LedoitWolf().fit(train.mean((2, 3)).double().numpy())

    def judge(descriptors: Tensor) -> Judgement:
        pooled = descriptors.mean((1, 2)).double().numpy()
        return Judgement(float(model.mahalanobis(pooled[None])[0]), None)

    return judge


def coreset(patches: Tensor, count: int, seed: int) -> list[int]:
    """Indices of `count` patches [n, C] that cover all others: greedy k-centres.

    Distances are taken after a random projection, as PatchCore does (Johnson-Lindenstrauss).
    """
    generator = torch.Generator().manual_seed(seed)
    if patches.shape[1] > _PROJECTED:
        patches = patches @ torch.randn(patches.shape[1], _PROJECTED, generator=generator)
    chosen = [int(torch.randint(len(patches), (1,), generator=generator))]
    nearest = (patches - patches[chosen[0]]).square().sum(1)
    while len(chosen) < min(count, len(patches)):
        chosen.append(int(nearest.argmax()))
        distances = (patches - patches[chosen[-1]]).square().sum(1)
        nearest = torch.minimum(nearest, distances)
    return chosen


FITS: dict[str, Callable[[Tensor, int], Judge]] = {
    "padim": fit_padim,
    "patchcore": fit_patchcore,
    "mahalanobis": fit_mahalanobis,
}


def run_peer(job: Job, settings: Settings) -> dict[str, Any]:
    """Trains and tests a peer: the same keys as a job of ours leaves. Raises InputError."""
    device, _ = choose_device(settings.device, settings.backend)
    torch.set_num_threads(settings.threads)
    capture = read_capture(job.source, settings.resolution)
    try:
        describe, words = patch_features(settings.features, settings.weights, device)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from error
    views = draw_views(capture.views, job.share, job.seed)
    started = time.monotonic()
    train = _describe_views(capture, views, describe, device)
    judge = FITS[job.method](train, job.seed)
    training_seconds = time.monotonic() - started
    summary = _test(capture, describe, judge, device)
    return {
        "training_seconds": training_seconds,
        "views": [view.name for view in views],
        "detections": {"own": summary | {"remarks": [words]}},
        "poses": None,
    }


def _describe_views(
    capture: Capture, views: Sequence[View], describe: PatchFeatures, device: torch.device
) -> Tensor:
    """Descriptors of the train views, [B, C, h, w] on the CPU."""
    images = (read_picture(capture, view.image_path) for view in views)
    return torch.stack([describe(image.to(device)).cpu() for image in images])


def _test(
    capture: Capture, describe: PatchFeatures, judge: Judge, device: torch.device
) -> dict[str, Any]:
    """Figures over the queries, and the median seconds per image."""
    camera = capture.views[0].camera
    scores, maps, seconds = [], [], []
    for query in tqdm(capture.queries, unit="image"):
        started = time.perf_counter()
        image = read_picture(capture, query.image_path)
        found = judge(describe(image.to(device)).cpu())
        if found.anomaly_map is not None:
            large = resize_maps(found.anomaly_map[None], camera.height, camera.width)
            maps.append(gaussian_blur(large[0], _SIGMA).numpy())
        scores.append(found.score)
        seconds.append(time.perf_counter() - started)
    return summarise(capture, scores, maps, seconds)


def summarise(
    capture: Capture,
    scores: Sequence[float],  # of the queries, in their order
    maps: Sequence[NDArray],  # [H, W] of the queries; empty: the peer makes none
    seconds: Sequence[float],
) -> dict[str, Any]:
    """The figures of a peer, with the keys and metrics of a detection run of ours."""
    camera = capture.views[0].camera
    figures = evaluate(
        scores,
        [query.is_anomalous for query in capture.queries],
        [query.label for query in capture.queries],
        maps or None,
        [_mask(query.mask_path, camera) for query in capture.queries],
    )
    return {
        "image_auroc": figures["image"]["auroc"],
        "pixel_auroc": figures["pixel"]["auroc"],
        "aupro": figures["pixel"]["aupro_0.3"],
        "aupro_0.05": figures["pixel"]["aupro_0.05"],
        "n_images": len(scores),
        "n_failed": 0,
        "seconds": {"coarse": None, "refine": None, "score": None,
                    "total": float(np.median(seconds)) if seconds else None},
    }  # fmt: skip


def read_picture(capture: Capture, path: Path) -> Tensor:
    """An image [3, H, W] as every method of a benchmark sees it."""
    camera = capture.views[0].camera
    return read_image(path, (camera.width, camera.height), capture.background or (0.0, 0.0, 0.0))


def _mask(path: Path | None, camera: Camera) -> NDArray | None:
    return None if path is None else read_mask(path, (camera.width, camera.height)).numpy()


def _drawn(total: int, count: int, seed: int) -> Tensor:
    """`count` of `total` indices (all, if there are fewer), in order."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values
