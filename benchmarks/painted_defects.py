"""How small a defect is found: synthetic ones painted onto views that the model was not fitted to.

    python -m benchmarks.painted_defects --model out/brick_dog out/brick_parrot --json painted.json

Settings of the anomaly map are chosen by this, never by test images. Painted are the held-out
views, at their estimated poses, and some train views; the residual memory leaves each out in turn
(train views are easier: the Gaussians were fitted to them).
AUROC: painted against unpainted views; found: share of the defects above mean + 2 standard
deviations of the unpainted views' log-scores.
The false alarms are those of the unpainted held-out views in another light, at the threshold for
5 %: the camera's exposure or white balance changes, background included, or the lamp alone.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from anomaly import NormalModelScorer, image_figures
from anomaly.filters import gaussian_blur
from anomaly.normal_model import Prediction, predict
from pipeline.command_line import run
from pipeline.model_folder import provenance
from scene import write_json

from .calibrated import open_calibrated
from .disturbances import LIGHTS

_RATE = 0.05  # false-alarm rate at which other light is measured
_TAIL = 2.0  # standard deviations of the log-scores at which a defect counts as found
_LAMPS = ("camera", "lamp")  # what a change of light changes: the whole image, the object
_EDGE = 0.6  # pixels, softness of a painted edge: about that of a photograph
_MARGIN = 4  # pixels of the silhouette's rim that inner defects keep clear of
_DARK = 0.2  # a patch on black is still lighter by this share of its contrast


@dataclass(frozen=True)
class DefectKind:
    """What is painted, how large, and how far from the colour below."""

    name: str
    what: Literal["shade", "neighbour", "excess", "stain", "missing"]
    area: tuple[float, float]  # pixels, smallest and largest
    contrast: float  # share by which a shade differs; cover of a stain; not used by the others


KINDS = (
    DefectKind("burr, 15 %", "shade", (20, 100), 0.15),
    DefectKind("burr, 30 %", "shade", (20, 100), 0.30),
    DefectKind("burr, neighbour's colour", "neighbour", (20, 100), 1.0),
    DefectKind("burr over the silhouette", "excess", (20, 100), 1.0),
    DefectKind("stain", "stain", (60, 250), 0.35),
    DefectKind("missing", "missing", (40, 200), 1.0),
)


class Painted(NamedTuple):
    """One photograph with one defect."""

    image: Tensor  # [3, H, W]
    mask: Tensor  # [H, W] bool, pixels that the defect covers by half
    kind: DefectKind


def paint(
    image: Tensor,  # [3, H, W], 0..1
    silhouette: Tensor,  # [H, W] bool
    background: Sequence[float],  # r, g, b
    kind: DefectKind,
    random: np.random.Generator,
) -> Painted:
    """One defect of this kind at a random place of the object. The same draws, the same image.

    "shade" makes a patch lighter or darker, "neighbour" gives it a colour from 6 to 20 px away,
    "excess" sticks out over the silhouette in the colour of the object there, "stain" mixes in a
    random colour with a soft edge, "missing" bites the background's colour into the rim.
    Raises ValueError for an empty silhouette.
    """
    inside = silhouette.cpu().numpy()
    if not inside.any():
        raise ValueError("a defect needs an object to lie on")
    at_rim = kind.what in ("excess", "missing")
    y, x = _place(inside, at_rim, random)
    soft = 2.0 if kind.what == "stain" else _EDGE
    cover = _blob(inside.shape, y, x, random.uniform(*kind.area), soft, random).to(image)
    colour = _colour(image, inside, background, kind, (y, x), random)
    if kind.what == "stain":
        cover = cover * kind.contrast
        mask = cover > 0.5 * kind.contrast
    else:
        mask = cover > 0.5
    if kind.what == "missing":
        mask = mask & silhouette
    return Painted(image + cover * (colour - image), mask, kind)


def _place(inside: NDArray, at_rim: bool, random: np.random.Generator) -> tuple[int, int]:
    """A pixel of the object: on its rim, or well inside where there is such a place."""
    core = ndimage.binary_erosion(inside, iterations=1 if at_rim else _MARGIN)
    chosen = inside & ~core if at_rim else core
    rows, columns = np.nonzero(chosen if chosen.any() else inside)
    index = int(random.integers(len(rows)))
    return int(rows[index]), int(columns[index])


def _blob(
    shape: tuple[int, ...], y: int, x: int, area: float, soft: float, random: np.random.Generator
) -> Tensor:
    """Cover [H, W] in 0..1 of an ellipse with a wavy outline, of about this area in pixels."""
    ratio, turn = random.uniform(1.0, 2.5), random.uniform(0.0, math.pi)
    wave, phase = random.uniform(0.0, 0.25), random.uniform(0.0, 2 * math.pi)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    dy, dx = rows - y, columns - x
    u = (math.cos(turn) * dx + math.sin(turn) * dy) / math.sqrt(ratio)
    v = (math.cos(turn) * dy - math.sin(turn) * dx) * math.sqrt(ratio)
    radius = math.sqrt(area / math.pi) * (1 + wave * np.sin(3 * np.arctan2(v, u) + phase))
    return gaussian_blur(torch.from_numpy((np.hypot(u, v) < radius).astype(np.float32)), soft)


def _colour(
    image: Tensor,
    inside: NDArray,
    background: Sequence[float],
    kind: DefectKind,
    place: tuple[int, int],
    random: np.random.Generator,
) -> Tensor:
    """Colour of the patch, [3, 1, 1], or for a shade [3, H, W]: the image's own, changed."""
    if kind.what == "shade":
        factor = kind.contrast * random.choice((-1.0, 1.0))
        return (image + factor * (_DARK + (1.0 - _DARK) * image)).clamp(0.0, 1.0)
    if kind.what == "missing":
        return image.new_tensor(list(background))[:, None, None]
    if kind.what == "stain":
        return torch.from_numpy(random.uniform(0.0, 1.0, 3)).to(image)[:, None, None]
    low, high = (6.0, 20.0) if kind.what == "neighbour" else (2.0, 6.0)
    rows, columns = np.nonzero(inside)
    distance = np.hypot(rows - place[0], columns - place[1])
    near = np.nonzero((distance >= low) & (distance <= high))[0]
    index = int(random.choice(near)) if len(near) else int(distance.argmin())
    return image[:, rows[index], columns[index]][:, None, None]


@dataclass(frozen=True)
class PaintedConfig:
    """Trained models and where the figures go."""

    model: tuple[Path, ...]
    """Model folders of train.py, trained with held-out views."""
    json: Path | None = None
    """File for the figures."""
    repeats: int = 3
    """Defects of each kind on each view."""
    train_views: int = 12
    """Train views to paint on as well."""
    threads: int = 1
    """CPU threads."""


@torch.no_grad()
def measure(path: Path, config: PaintedConfig) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of figures of one model (group of views, kind, AUROC, share found), and false alarms.

    Raises InputError.
    """
    opened = open_calibrated(path, _RATE, config.threads)
    scorer, inspector = opened.scorer, opened.inspector
    views = {view.name: view for view in opened.capture.views}
    held_out, train = opened.config["held_out"], opened.config["views"]
    remembered = [*train, *held_out]  # in the order of the memory
    train = train[:: max(1, len(train) // max(1, config.train_views))][: config.train_views]
    rows: list[dict[str, Any]] = []
    alarms = dict.fromkeys((f"{light}, {what}" for light in LIGHTS for what in _LAMPS), 0)
    for group, names in (("held-out", held_out), ("train", train)):
        good: list[float] = []
        found: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
        for number, name in enumerate(tqdm(names, desc=f"{path.name}, {group}", unit="view")):
            image, camera = inspector.read(views[name].image_path), inspector.camera
            pose = views[name].camera.world_to_camera
            if group == "held-out":
                pose = inspector.locate(image[None])[0].world_to_camera
            excluded = remembered.index(name)
            shown = predict(scorer.model, camera.at(pose), scorer.known, excluded)
            good.append(_score(scorer, image, shown))
            if group == "held-out":
                for light, changed in _lit(image, shown):
                    alarms[light] += _score(scorer, changed, shown) > opened.threshold
            for index, kind in enumerate(KINDS):
                for repeat in range(config.repeats):
                    random = np.random.default_rng([number, repeat, index])
                    background = scorer.model.background.tolist()
                    painted = paint(image, shown.alpha > 0.5, background, kind, random).image
                    found[kind.name].append(_score(scorer, painted, shown))
        if good:
            rows += _rows(path.name, group, good, found)
    return rows, {"views": len(held_out)} | alarms


def _lit(image: Tensor, shown: Prediction) -> Iterator[tuple[str, Tensor]]:
    """The image [3, H, W] in every light: all of it changed, or the object alone."""
    for light, gains in LIGHTS.items():
        changed = (image * image.new_tensor(gains)[:, None, None]).clamp(0.0, 1.0)
        of_object = torch.where(shown.alpha > 0.5, changed, image)
        for what, picked in zip(_LAMPS, (changed, of_object), strict=True):
            yield f"{light}, {what}", picked


def _score(scorer: NormalModelScorer, image: Tensor, shown: Prediction) -> float:
    return float(scorer.map_of(image, shown)[1].max())


def _rows(
    name: str, group: str, good: list[float], found: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """One row per kind, and their mean."""
    logs = [math.log(max(score, 1e-12)) for score in good]
    limit = math.exp(statistics.fmean(logs) + _TAIL * statistics.stdev(logs))
    rows: list[dict[str, Any]] = []
    for kind, scores in found.items():
        labels = [False] * len(good) + [True] * len(scores)
        auroc = image_figures(good + scores, labels)["auroc"]
        share = sum(score > limit for score in scores) / len(scores)
        rows.append({"object": name, "views": group, "kind": kind, "auroc": auroc, "found": share})
    mean = {key: statistics.fmean(row[key] for row in rows) for key in ("auroc", "found")}
    return [*rows, {"object": name, "views": group, "kind": "all", **mean}]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, a line per object and group of views."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = ["| object | views | " + " | ".join(kinds) + " |", "|" + "---|" * (len(kinds) + 2)]
    for name, group in dict.fromkeys((row["object"], row["views"]) for row in rows):
        cells = [
            f"{row['auroc']:.3f} / {row['found']:.2f}"
            for row in rows
            if (row["object"], row["views"]) == (name, group)
        ]
        lines.append(f"| {name} | {group} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(config: PaintedConfig) -> None:
    """Measures all models, prints the figures and writes them where that is asked for."""
    torch.set_num_threads(config.threads)
    found = {str(path): measure(path, config) for path in config.model}
    rows = [row for figures, _ in found.values() for row in figures]
    alarms = {name: counts for name, (_, counts) in found.items()}
    if config.json is not None:
        write_json(config.json, {"rows": rows, "false_alarms": alarms, **provenance()})
    print(table(rows))
    for name, counts in alarms.items():
        print(f"{name}: {counts}")


if __name__ == "__main__":
    run(lambda: main(tyro.cli(PaintedConfig, description=__doc__)))
