"""Judges images of a trained object: pose, anomaly map, score, verdict, report.

    python detect.py --model out/Gorilla                          the data set's test images
    python detect.py --model out/Gorilla --images photo.png       one image, or a folder of them
    python detect.py --model out/Gorilla --preset paper --weights weights/

Writes results.json, results.csv, maps/, overlays/ and report.html.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer.backends import choose_device
from gaussian_renderer.batch import renders_many
from pipeline.command_line import run
from pipeline.inspector import Inspection
from pipeline.model_folder import ModelFolder, provenance
from pipeline.open_model import OpenModel, Parts, open_model
from pipeline.precision import learnt_parts, settle_precision
from pipeline.presets import DETECTION
from pipeline.regions import placed_regions
from pipeline.results import Results
from pipeline.threads import use_threads
from pose_estimation import PoseSettings
from report import OutputFolder
from scene import (
    Capture,
    InputError,
    Query,
    folder_lock,
    read_capture,
    read_mask,
    read_queries,
    true_poses,
)

_TOGETHER = 16  # queries in one go where a call renders many views


@dataclass(frozen=True)
class DetectConfig:
    """Every knob of a detection run."""

    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """Model folder that train.py wrote."""
    images: Path | None = None
    """An image or a folder of images; default: the test images of the training data set."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to write to; default: <model>/detections/<date and time>."""
    preset: Literal["model", "default", "paper"] = "model"
    """`paper`: LoFTR, 175 Adam steps, EfficientNet-b4, maximum. `model`: as it was trained."""
    matcher: Literal["auto", "loftr", "xfeat", "classical"] | None = None
    """Coarse pose, instead of the preset's."""
    refine: Literal["auto", "lm", "adam"] | None = None
    """Refinement of the pose, instead of the preset's."""
    steps: int = 175
    """Adam steps (the paper's k)."""
    features: Literal["auto", "efficientnet_b4", "classical", "rgb"] | None = None
    """What is compared, instead of the preset's."""
    weights: Path | None = None
    """Folder with weight files, for machines without a network."""
    false_alarm_rate: float = 0.01
    """Share of good images that may be called anomalous; sets the threshold."""
    batch_size: int | None = None
    """Queries judged together; default: 16 where a call renders many views (a GPU), else 1."""
    precision: Literal["auto", "single", "half"] = "auto"
    """Of EfficientNet-b4 and LoFTR; auto: half on a GPU if the first queries score the same."""
    backend: str = "auto"
    """auto, cpu, triton, gsplat, graphdeco or reference."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int = 1
    """CPU threads."""


@dataclass(frozen=True)
class Detections:
    """What a run found."""

    folder: Path
    results: dict[str, Any] = field(repr=False)  # the content of results.json
    failures: list[str] = field(default_factory=list)  # one sentence per image that was not judged


def detect(config: DetectConfig) -> Detections:
    """Judges the queries of one object. Raises InputError for anything that the user can mend.

    An image that cannot be read is reported in `failures`, the others go on. Ctrl-C leaves the
    report of what was judged until then.
    """
    device, words = choose_device(config.device, config.backend)
    folder = ModelFolder(config.model)
    settings = folder.load_config()["settings"]
    parts = _parts(config, settings["preset"])
    model = open_model(folder, parts, device)
    use_threads(config.threads, config.backend, model.inspector.matcher.name, model.features)
    queries, capture = _queries(config, settings)
    paths = [query.image_path for query in queries]
    precision = settle_precision(model.inspector, config.precision, paths, device.type)
    remarks = [words, *model.remarks]
    if learnt_parts(model.inspector):
        remarks.append(f"precision {precision}")
    print(f"{model.name}: {len(queries)} images; {'; '.join(remarks)}")
    threshold = model.threshold(config.false_alarm_rate)
    results = Results(threshold, _truth(capture), model.calibration, model.world)
    size = config.batch_size or (_TOGETHER if renders_many(config.backend, device) else 1)
    root = _output_root(config)
    with folder_lock(root, "-o"):
        output = OutputFolder(root, model.display_scale)
        whole = _judge_all(model, queries, size, results, output)
        if not whole:
            remarks.append(f"interrupted after {len(results.entries)} of {len(queries)} images")
        used = {"batch_size": size, "precision": precision}
        document = results.document(_settings(config, parts, remarks, used))
        output.write(document, results, model.name, remarks, whole)
    _say(document["summary"], root)
    if not whole:
        raise KeyboardInterrupt
    return Detections(root, document, results.failures())


def _judge_all(
    model: OpenModel, queries: Sequence[Query], size: int, results: Results, output: OutputFolder
) -> bool:
    """Judges the queries, `size` at a time; false when it was interrupted."""
    try:
        with tqdm(total=len(queries), unit="image", file=sys.stderr) as bar:
            for start in range(0, len(queries), size):
                batch = queries[start : start + size]
                found = model.inspector.inspect_many([query.image_path for query in batch])
                _keep(batch, found, model, results, output)
                bar.update(len(batch))
    except KeyboardInterrupt:
        return False
    return True


def _parts(config: DetectConfig, trained_preset: str) -> Parts:
    """The preset with what the user asked for in its place. Raises InputError."""
    size = 1 if config.batch_size is None else config.batch_size
    if min(config.steps, config.threads, size) < 1:
        raise InputError("--steps, --threads and --batch-size must be at least 1")
    if not 0 < config.false_alarm_rate < 1:
        raise InputError(
            f"--false-alarm-rate must lie between 0 and 1, not {config.false_alarm_rate}"
        )
    preset = DETECTION[trained_preset if config.preset == "model" else config.preset]
    asked = {name: getattr(config, name) for name in ("matcher", "refine", "features")}
    preset = replace(preset, **{name: value for name, value in asked.items() if value})
    pose = PoseSettings(
        method=preset.refine, steps=config.steps, backend=config.backend, threads=config.threads
    )
    return Parts(preset, pose, config.weights, config.false_alarm_rate)


def _queries(
    config: DetectConfig, settings: dict[str, Any]
) -> tuple[tuple[Query, ...], Capture | None]:
    """The images asked for, or the test images of the data set. Raises InputError."""
    if config.images is not None:
        return read_queries(config.images), None
    capture = read_capture(settings["source"], settings["resolution"])
    if not capture.queries:
        raise InputError(
            f"'{capture.root}' has no test images: name images with --images FILE_OR_FOLDER"
        )
    return capture.queries, capture


def _truth(capture: Capture | None) -> dict[str, Tensor]:
    """True poses by query name, in the frame of the files."""
    if capture is None:
        return {}
    return {name: capture.world.into_files(pose) for name, pose in true_poses(capture).items()}


def _output_root(config: DetectConfig) -> Path:
    if config.output is not None:
        return config.output
    base = config.model / "detections" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    taken = (base.with_name(f"{base.name}_{number}") for number in count(2))
    return next(root for root in chain([base], taken) if not root.exists())


def _keep(
    batch: Sequence[Query],
    found: Sequence[Inspection | InputError],
    model: OpenModel,
    results: Results,
    output: OutputFolder,
) -> None:
    """Writes the pictures of a batch and adds its entries, those of failures too."""
    limit = None if results.threshold is None else results.threshold.value
    masks = [_mask(*pair) for pair in zip(batch, found, strict=True)]
    found = [m if isinstance(m, InputError) else f for m, f in zip(masks, found, strict=True)]
    whole = [
        (query, each, mask)
        for query, each, mask in zip(batch, found, masks, strict=True)
        if isinstance(each, Inspection) and not isinstance(mask, InputError)
    ]
    paths = output.write_images(whole, limit)
    entries = iter(zip(whole, paths, strict=True))
    for query, each in zip(batch, found, strict=True):
        if isinstance(each, InputError):
            results.add_failure(query, str(each))
            tqdm.write(f"error: {each}", file=sys.stderr)
            continue
        (_, _, mask), path = next(entries)
        regions: list[dict[str, Any]] = []
        if limit is not None:
            regions = placed_regions(each, model.inspector, limit, model.world)
        results.add(query, each, mask, path, regions)


def _mask(query: Query, found: Inspection | InputError) -> NDArray[np.bool_] | InputError | None:
    """The ground truth of a judged query [H, W], None without one; why it cannot be read."""
    if query.mask_path is None or isinstance(found, InputError):
        return None
    height, width = found.anomaly_map.shape
    try:
        return read_mask(query.mask_path, (width, height)).numpy()
    except InputError as error:
        return error


def _settings(
    config: DetectConfig, parts: Parts, remarks: list[str], found: dict[str, Any]
) -> dict[str, Any]:
    """Everything needed to repeat the run, as JSON values."""
    asked = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    used = asdict(parts.preset) | {"pose": asdict(parts.pose), **found}
    return asked | {"used": used, "remarks": remarks, **provenance()}


def _say(summary: dict[str, Any], root: Path) -> None:
    """The figures of the run on the terminal."""
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        value = summary[name]
        print(f"{name:12s} {'not available' if value is None else f'{value:.4f}'}")
    failed, done = summary["n_failed"], "judged"
    if summary["threshold"] is None:
        done = "scored; there is no threshold, so no verdicts are given"
    print(f"{summary['n_images'] - failed} of {summary['n_images']} images {done}", end="")
    print(f", {failed} failed (see the report)" if failed else "")
    print(f"report: {root / 'report.html'}")


def main() -> None:
    """Command line; status 1 when an image could not be read."""

    def script() -> None:
        if detect(tyro.cli(DetectConfig, description=__doc__)).failures:
            sys.exit(1)

    run(script, "the report holds what was judged until then")


if __name__ == "__main__":
    main()
