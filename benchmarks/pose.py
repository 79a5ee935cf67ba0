"""Are poses found, from how far away, and does `pose_ok` tell right ones from wrong ones?

    python -m benchmarks.pose basin --model out/brick_dog --json basin.json --plot basin.png
    python -m benchmarks.pose check --model out/brick_dog --others data/brick_parrot
    python -m benchmarks.pose hard --model out/brick_dog
    python -m benchmarks.pose recall --model out/rods --others out/flange out/lego

`basin` turns the camera of held-out train views about the object's centre by known angles, around
random axes, and refines from there. `check` shows the queries of the model's own capture, of other
objects, and images that a seed makes: noise, blobs, one colour, a tiny object. `hard` renders the
model itself, with noise of 1 %, from changed poses of held-out views (rolled, near, far, cut off),
and variants of it; so that tests the search, not the model. `recall` tells of each model how many
of its queries get a hypothesis near the true pose, and what comes of it (pose_recall.py).
Right: within 1 degree and 0.02 units.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import tyro
from torch import Tensor

from gaussian_renderer import ObjectRenderer
from pipeline.inspector import Inspector
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.presets import DETECTION
from pose_estimation import (
    Hypothesis,
    Matcher,
    PoseEstimate,
    PoseSettings,
    build_gallery,
    estimate_pose,
    object_extent,
    rotation_error,
    select_matcher,
    translation_error,
)
from pose_estimation.settings import Method
from pose_estimation.thumbnails import differs
from scene import (
    Camera,
    Capture,
    InputError,
    Query,
    View,
    read_capture,
    read_image,
    split_holdout,
    true_poses,
    write_json,
)

from .common import ANGLE_LIMIT, DISTANCE_LIMIT, machine
from .pose_queries import CHANGES, MADE, Change, make, turned, variants
from .pose_recall import Recall, recall
from .pose_recall import table as recall_table

_MADE = 4  # images of each made kind
_NOISE = 0.01  # of a rendered query
_EVERY = 8  # train view that the gallery of a rendered object has


@dataclass(frozen=True)
class Config:
    """Command line."""

    study: tyro.conf.Positional[Literal["basin", "check", "hard", "recall"]]
    model: Path
    """Model folder written by train.py; the capture that it was trained on is read too."""
    others: tuple[Path, ...] = ()
    """check: captures of other objects. recall: further model folders."""
    images: int = 50
    """check: queries of each other capture, at most."""
    queries: int = 1000
    """check, recall: queries of the model's own capture, at most."""
    matcher: str = "auto"
    """check, recall: who gives the coarse poses."""
    weights: Path | None = None
    """check, recall: folder with weights of XFeat or LoFTR."""
    views: int = 16
    """basin, hard: held-out views; each gives one query of every kind."""
    angles: tuple[float, ...] = (2, 5, 10, 15, 20, 30, 40)
    """basin: start errors, degrees."""
    methods: tuple[Method, ...] = ("lm", "adam", "auto")
    """basin: refinements."""
    plot: Path | None = None
    """basin: where to draw the shares found (PNG or SVG)."""
    threads: int = 1
    seed: int = 0
    json: Path | None = None
    """Where to write the results."""


class Sample(NamedTuple):
    """One query and, if it shows the object, the true world_to_camera [4, 4]."""

    image: Tensor  # [3, H, W]
    truth: Tensor | None
    start: Tensor | None = None  # [4, 4] the only hypothesis, where that is given


Locate = Callable[[Sample], PoseEstimate]


@dataclass(frozen=True)
class Row:
    """One kind of queries."""

    kind: str
    images: int
    right: int  # poses within 1 degree and 0.02 units
    flagged: int  # pose_ok is False
    wrong_verdicts: int  # right and flagged, or wrong and accepted
    rotation_median: float | None  # degrees; None where there is no true pose
    rotation_worst: float | None
    translation_median: float | None  # world units
    translation_worst: float | None
    seconds_median: float
    seconds_worst: float
    cpu_seconds_median: float  # processor time of this process: what an idle machine would take
    cpu_seconds_worst: float


def main(config: Config) -> list[Row] | list[Recall]:
    """Runs a study and returns its rows. Raises InputError for captures without poses."""
    torch.set_num_threads(config.threads)
    if config.study == "recall":
        return _recall(config)
    inspector, capture = _open(config, config.model)
    study = {"basin": basin, "check": check, "hard": hard}[config.study]
    rows = []
    for row in study(config, inspector, capture):
        rows.append(row)
        print(
            f"{row.kind:40s} {row.images:3d} images, {row.right} right, {row.flagged} flagged, "
            f"{row.wrong_verdicts} wrong verdicts, CPU s {row.cpu_seconds_median:.2f}, "
            f"worst {row.cpu_seconds_worst:.2f}",
            flush=True,
        )
    if config.json is not None:
        document = {"machine": machine(config.threads), "model": config.model.name}
        write_json(config.json, document | {"rows": [asdict(row) for row in rows]})
    if config.study == "basin" and config.plot is not None:
        draw(rows, config.angles, config.methods, config.plot)
    print(table(rows))
    return rows


def _recall(config: Config) -> list[Recall]:
    """One row per model; printed as they come, written together."""
    rows = []
    for path in (config.model, *config.others):
        rows.append(recall(path.name, *_open(config, path), config.queries))
        print(rows[-1], flush=True)
    if config.json is not None:
        document = {"machine": machine(config.threads), "rows": [asdict(row) for row in rows]}
        write_json(config.json, document)
    print(recall_table(rows))
    return rows


def _open(config: Config, path: Path) -> tuple[Inspector, Capture]:
    # No anomaly map is made here, so that no weights of a backbone are needed.
    preset = replace(DETECTION["default"], features="rgb", matcher=config.matcher)
    settings = InspectionSettings(
        preset, torch.device("cpu"), threads=config.threads, weights=config.weights
    )
    folder = ModelFolder(path)
    inspector = open_inspector(folder, settings)
    print("\n".join(inspector.notes))
    stored = folder.load_config()["settings"]
    return inspector, read_capture(stored["source"], stored["resolution"])


def basin(config: Config, inspector: Inspector, capture: Capture) -> Iterator[Row]:
    """Every method from every start error, one hypothesis each."""
    model = inspector.model
    centre, _ = object_extent(model.gaussians)
    views = _held_out(capture, config.views)
    images = [_image(view.image_path, inspector) for view in views]
    for degrees in config.angles:
        for method in config.methods:
            generator = torch.Generator().manual_seed(config.seed)
            samples = []
            for view, image in zip(views, images, strict=True):
                axis = torch.randn(3, generator=generator, dtype=torch.float64)
                true = view.camera.world_to_camera
                start = turned(true, centre, axis, math.radians(degrees))
                samples.append(Sample(image, true, start))
            locate = _refinement(inspector, PoseSettings(method=method, schedule="official"))
            yield measure(f"{method}, {degrees:g} deg", locate, samples)


def _refinement(inspector: Inspector, settings: PoseSettings) -> Locate:
    """The refinement alone, from the start of the sample."""

    def locate(sample: Sample) -> PoseEstimate:
        assert sample.start is not None
        start = [Hypothesis(sample.start, 1.0)]
        return estimate_pose(inspector.model, inspector.camera, sample.image, start, settings)

    return locate


def check(config: Config, inspector: Inspector, capture: Capture) -> Iterator[Row]:
    """The object's own queries, other objects, and no object."""
    if inspector.pose_check is None:
        raise InputError(f"'{config.model}' was trained without held-out views: no pose check")

    def locate(sample: Sample) -> PoseEstimate:
        return inspector.locate(sample.image[None])[0]

    truth = true_poses(capture)
    known = [query for query in capture.queries if query.name in truth]
    if not known:
        raise InputError(f"the capture of '{config.model}' has no queries with known poses")
    own = (
        Sample(inspector.read(query.image_path), truth[query.name])
        for query in _spread(known, config.queries)
    )
    yield measure("the object", locate, own)
    for other in config.others:
        queries = _spread(read_capture(other).queries, config.images)
        foreign = (Sample(_image(query.image_path, inspector), None) for query in queries)
        yield measure(f"another: {other.name}", locate, foreign)
    generator = torch.Generator().manual_seed(config.seed)
    background = inspector.model.background.cpu()
    for kind in MADE:
        made = [make(kind, inspector.camera, background, generator) for _ in range(_MADE)]
        yield measure(kind, locate, (Sample(image, None) for image in made))


def hard(config: Config, inspector: Inspector, capture: Capture) -> Iterator[Row]:
    """Renderings from changed poses of held-out views, and of changed objects."""
    train = [view.camera for view in split_holdout(capture.views)[0]][::_EVERY]
    targets = [view.camera for view in _held_out(capture, config.views)]
    for name, gaussians in variants(inspector.model.gaussians).items():
        model = replace(inspector.model, gaussians=gaussians)
        images = [_rendered(model, camera) for camera in train]
        silhouettes = [differs(image, model.background) for image in images]
        gallery = build_gallery(model, train, images, silhouettes)
        matcher = select_matcher("silhouette", gallery, model).matcher

        def locate(
            sample: Sample, model: ObjectRenderer = model, search: Matcher = matcher
        ) -> PoseEstimate:
            coarse = search.coarse_poses(sample.image, targets[0])
            return estimate_pose(model, targets[0], sample.image, coarse)

        for kind, change in (CHANGES if name == "" else {name: CHANGES["as it is"]}).items():
            yield measure(kind, locate, _changed(model, targets, change, config.seed))


def _changed(
    model: ObjectRenderer, targets: Sequence[Camera], change: Change, seed: int
) -> Iterator[Sample]:
    """Noisy renderings from the changed poses of the targets."""
    generator = torch.Generator().manual_seed(seed)
    centre, _ = object_extent(model.gaussians)
    for camera in targets:
        true = change(camera.world_to_camera, camera, centre, generator)
        image = _rendered(model, camera.at(true))
        noise = _NOISE * torch.randn(image.shape, generator=generator)
        yield Sample((image + noise).clamp(0, 1), true)


@torch.no_grad()
def _rendered(model: ObjectRenderer, camera: Camera) -> Tensor:
    return model(camera).image.clamp(0, 1)


def _held_out(capture: Capture, most: int) -> list[View]:
    return list(split_holdout(capture.views)[1][:most])


def _image(path: Path, inspector: Inspector) -> Tensor:
    """An image [3, H, W] at the size of the model, whatever its aspect."""
    red, green, blue = inspector.model.background.tolist()
    return read_image(path, (inspector.camera.width, inspector.camera.height), (red, green, blue),
                      inspector.white, inspector.lens)  # fmt: skip


def _spread(queries: Sequence[Query], most: int) -> list[Query]:
    """At most so many, evenly spread."""
    count = min(most, len(queries))
    return [queries[i * len(queries) // count] for i in range(count)]


def measure(kind: str, locate: Locate, samples: Iterator[Sample] | Sequence[Sample]) -> Row:
    """Estimates the pose of every sample and counts."""
    verdicts, angles, distances, walls, cpus = [], [], [], [], []
    for sample in samples:
        began, began_cpu = time.perf_counter(), time.process_time()
        pose = locate(sample)
        cpus.append(time.process_time() - began_cpu)
        walls.append(time.perf_counter() - began)
        right = False
        if sample.truth is not None:
            angles.append(float(rotation_error(pose.world_to_camera, sample.truth)))
            distances.append(float(translation_error(pose.world_to_camera, sample.truth)))
            right = angles[-1] < ANGLE_LIMIT and distances[-1] < DISTANCE_LIMIT
        verdicts.append((right, pose.pose_ok))
    degrees = [math.degrees(angle) for angle in angles]
    return Row(
        kind=kind,
        images=len(verdicts),
        right=sum(right for right, _ in verdicts),
        flagged=sum(accepted is False for _, accepted in verdicts),
        wrong_verdicts=sum(accepted not in (None, right) for right, accepted in verdicts),
        rotation_median=statistics.median(degrees) if degrees else None,
        rotation_worst=max(degrees, default=None),
        translation_median=statistics.median(distances) if distances else None,
        translation_worst=max(distances, default=None),
        seconds_median=statistics.median(walls),
        seconds_worst=max(walls),
        cpu_seconds_median=statistics.median(cpus),
        cpu_seconds_worst=max(cpus),
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line per kind."""
    lines = [
        "| queries | images | right | flagged | wrong verdicts | rotation, deg | position "
        "| CPU s a query |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        rotation, position = "-", "-"
        if row.rotation_median is not None and row.translation_median is not None:
            rotation = f"{row.rotation_median:.3f}, worst {row.rotation_worst:.2f}"
            position = f"{row.translation_median:.4f}, worst {row.translation_worst:.4f}"
        lines.append(
            f"| {row.kind} | {row.images} | {row.right} | {row.flagged} | {row.wrong_verdicts} "
            f"| {rotation} | {position} "
            f"| {row.cpu_seconds_median:.2f}, worst {row.cpu_seconds_worst:.2f} |"
        )
    return "\n".join(lines)


def draw(rows: Sequence[Row], angles: Sequence[float], methods: Sequence[str], path: Path) -> None:
    """Share of poses found against the start error; the rows in the order of `basin`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    for number, method in enumerate(methods):
        shares = [100 * row.right / row.images for row in rows[number :: len(methods)]]
        axes.plot(angles, shares, marker="o", label=method)
    axes.set(xlabel="start error, degrees", ylabel="poses found, %", ylim=(-3, 103))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Config))
