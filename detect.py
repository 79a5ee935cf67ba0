"""Inspects images of a trained object: pose, anomaly map, score, verdict, report.

    python detect.py --model out/Gorilla                          the data set's test images
    python detect.py --model out/Gorilla --images photo.png       one image, or a folder of them
    python detect.py --model out/Gorilla --preset paper --weights weights/
    python detect.py --model out/Gorilla --images parts/ --group-by folder    one verdict a folder

Writes results.json, results.csv, maps/, overlays/ and report.html.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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

from anomaly import feature_names
from gaussian_renderer import backend_help, choose_device, renders_many
from pipeline.command_line import run, settle_threads
from pipeline.focal import fit_focal
from pipeline.groups import ObjectInspector, group_names, inspect_objects
from pipeline.inspector import Inspection, Inspector
from pipeline.journal import files_state, is_unfinished, open_journal
from pipeline.model_folder import ModelFolder, provenance
from pipeline.object_calibration import calibrate_objects
from pipeline.open_inspector import InspectionSettings, display_scale, open_inspector
from pipeline.presets import DETECTION
from pipeline.reading import QuerySetup, query_setup
from pipeline.results import Results, overlay_path
from pose_estimation import PoseSettings, matcher_names
from report import detection_report, run_in_3d, write_overlay, write_report
from scene import (
    Capture,
    Distortion,
    InputError,
    Query,
    QueryLens,
    folder_lock,
    label_summary,
    read_capture,
    read_mask,
    read_queries,
    refuse_inside,
    true_poses,
)

_BATCH = 16  # queries in one go where a call renders many views (a GPU)
_SETUP = ("masks", "background", "ignore_masks", "camera")
_WRITERS = 4  # threads that encode and write images


@dataclass(frozen=True)
class DetectConfig:
    """Every knob of a detection run."""

    model: Annotated[Path, tyro.conf.arg(aliases=["-m"])]
    """Model folder that train.py wrote."""
    images: Path | None = None
    """An image or a folder of images; default: the test images of the training data set."""
    good_label: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """Folders of good images, beside those called good, ok, normal, pass, ..."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder to write to; default: <model>/detections/<date and time>. The same command goes on
    with a run that was interrupted there."""
    resume: Path | None = None
    """Folder of an interrupted run to go on with, where the command named none."""
    preset: Literal["model", "default", "paper"] = "model"
    """`paper`: LoFTR, 175 Adam steps, EfficientNet-b4, maximum. `model`: as it was trained."""
    matcher: Annotated[str | None, tyro.conf.arg(metavar="|".join(matcher_names()))] = None
    """Coarse pose, instead of the preset's."""
    refine: Literal["auto", "lm", "adam"] | None = None
    """Refinement of the pose, instead of the preset's."""
    steps: int = 175
    """Adam steps (the paper's k)."""
    features: Annotated[str | None, tyro.conf.arg(metavar="|".join(feature_names()))] = None
    """What is compared, instead of the preset's. `residual`: in units of what is normal at each
    place of the object (the default preset's)."""
    weights: Path | None = None
    """Folder with weight files, for machines without a network."""
    false_alarm_rate: float = 0.01
    """Share of good images that may be called anomalous; sets the threshold."""
    masks: Path | None = None
    """Folder of masks, white on the object, named as the images within their folder."""
    background: Path | None = None
    """The same camera's picture without the part, or a folder of several."""
    ignore_masks: Path | None = None
    """Masks, white where nothing is inspected (a gripper): a folder, or one file for all images."""
    camera: Annotated[str | None, tyro.conf.arg(metavar="FILE|exif|fit")] = None
    """The queries' own camera, if not that of the train views: YAML, XML or JSON as OpenCV or ROS
    write it, or JSON with fx, fy, cx, cy, w, h, k1 ...; `exif`: the focal length in the images;
    `fit`: the one at which the object fits some of them."""
    group_by: Annotated[str | None, tyro.conf.arg(metavar="folder|REGEX")] = None
    """Several images of one object are inspected together: `folder` takes those of a folder for
    one object, a regular expression those of which its one group matches the same part of the name
    ('(.*)_' takes Burrs/7_1 and Burrs/7_2 for Burrs/7). Adds one verdict per object."""
    batch_size: int | None = None
    """Images inspected together; default: 16 where a call renders many views (a GPU), else 1."""
    backend: Annotated[str, tyro.conf.arg(help=backend_help())] = "auto"
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int | None = None
    """CPU threads; default: all cores. The result is the same for any number."""


@dataclass(frozen=True)
class Detections:
    """What a run found."""

    folder: Path
    results: dict[str, Any] = field(repr=False)  # the content of results.json
    failures: list[str] = field(default_factory=list)  # one sentence per image not inspected


def detect(config: DetectConfig) -> Detections:
    """Inspects the queries of one object. Raises InputError for anything that the user can fix.

    An image that cannot be read is reported in `failures`, the others go on. Whatever ends the run
    leaves the report of what was inspected until then, and the same call goes on with it.
    """
    root = _output_root(config)
    folder = ModelFolder(config.model)
    stored = folder.load_config()["settings"]
    settings, why = _settings(config, stored["preset"])
    inspector = open_inspector(folder, settings)
    queries, capture = _queries(config, stored)
    inspector = replace(inspector, setup=_setup(config, inspector, queries))
    own = inspector.setup.lens
    notes = [why, *inspector.notes, *([] if own is None else [own.text])]
    print(f"{inspector.name}: {len(queries)} images; {'; '.join(notes)}")
    if labels := label_summary(queries):
        print(labels)
    names = None if config.group_by is None else group_names(queries, config.group_by)
    calibration = None if names is None else calibrate_objects(inspector, folder)
    refuse_inside(root, config.images or Path(stored["source"]), "-o")
    size = config.batch_size or (_BATCH if renders_many(config.backend, settings.device) else 1)
    with (
        folder_lock(root, "-o"),
        open_journal(root, folder.identity(), _decisive(config, settings)) as journal,
    ):
        results = Results(
            root, inspector.threshold, _truth(capture), inspector.world, journal,
            inspector.reader.undone,
        )  # fmt: skip
        left, scale = results.take_over(queries), display_scale(inspector, folder)
        if results.entries:
            print(f"{len(results.entries)} images were inspected before: {len(left)} are left")

        def write(complete: bool) -> dict[str, Any]:
            results.in_order_of(queries)
            objects = None
            if names is not None and calibration is not None and complete:
                together = ObjectInspector(inspector, calibration, root)
                objects = inspect_objects(together, names, results.queries, results.entries)
            document = results.write(_as_json(config, settings, size, notes), complete, objects)
            in_3d = run_in_3d(inspector, folder, results.entries, root, scale) if complete else None
            report = detection_report(document, results.queries, inspector.name, root, in_3d)
            write_report(root / "report.html", report)
            return document

        try:
            _inspect_all(inspector, left, size, results, scale)
            document = write(complete=True)
        except BaseException as stop:  # also of a bug: hours of work may have been done
            notes.append(f"interrupted after {len(results.entries)} of {len(queries)} images")
            later = "objects are not scored yet: they are when the same command has gone on"
            notes += [later] * (names is not None)
            with suppress(InputError, OSError):  # of a full disk; the journal holds everything
                _say(write(complete=False)["summary"], root)
            same = "the same command" + f" with --resume {root}" * (config.output is None)
            stop.add_note(f"'{root}' holds what was inspected until then; {same} goes on")
            if names is not None:
                stop.add_note(f"--group-by: {later}")
            raise
        journal.close()
    if "objects" in document:
        _say_objects(document)
    _say(document["summary"], root)
    return Detections(root, document, results.failures())


def _inspect_all(
    inspector: Inspector, queries: Sequence[Query], size: int, results: Results, scale: float
) -> None:
    """Inspects the queries, `size` at a time."""
    limit = None if inspector.threshold is None else inspector.threshold.value
    bar = tqdm(total=len(queries), unit="image", file=sys.stderr)
    with bar, ThreadPoolExecutor(_WRITERS) as writers:
        for start in range(0, len(queries), size):
            batch = queries[start : start + size]
            found = inspector.inspect([query.image_path for query in batch])
            pairs = [
                _with_mask(*p, inspector.reader.undone) for p in zip(batch, found, strict=True)
            ]
            overlays = [
                writers.submit(_write_overlay, results.root, query, *pair, scale, limit)
                for query, pair in zip(batch, pairs, strict=True)
            ]
            for written in overlays:
                written.result()
            for query, (inspection, mask) in zip(batch, pairs, strict=True):
                if inspection.error is not None:
                    tqdm.write(f"error: {inspection.error}", file=sys.stderr)
                if note := results.add(query, inspection, mask)["note"]:
                    tqdm.write(f"warning: {query.name}: {note}", file=sys.stderr)
            bar.update(len(batch))


def _with_mask(
    query: Query, found: Inspection, lens: Distortion | QueryLens | None
) -> tuple[Inspection, NDArray[np.bool_] | None]:
    """An inspection with the ground truth [H, W]; a mask that cannot be read is its error."""
    if query.mask_path is None or found.anomaly_map is None:
        return found, None
    height, width = found.anomaly_map.shape
    try:
        return found, read_mask(query.mask_path, (width, height), lens).numpy()
    except InputError as error:
        return Inspection(found.path, str(error)), None


def _write_overlay(
    root: Path, query: Query, found: Inspection, mask: NDArray[np.bool_] | None, scale: float,
    limit: float | None,
) -> None:  # fmt: skip
    if found.image is None or found.rendering is None or found.anomaly_map is None:
        return
    flagged = None if limit is None else found.anomaly_map >= limit
    path = root / overlay_path(query)
    photograph = found.image if found.photograph is None else found.photograph
    write_overlay(path, photograph, found.rendering, found.anomaly_map, scale, mask, flagged)


def _settings(config: DetectConfig, trained_preset: str) -> tuple[InspectionSettings, str]:
    """The preset with what the user asked for in its place, and which backend runs and why.

    Raises InputError.
    """
    size = 1 if config.batch_size is None else config.batch_size
    if min(config.steps, size) < 1:
        raise InputError("--steps and --batch-size must be at least 1")
    if not 0 < config.false_alarm_rate < 1:
        raise InputError(
            f"--false-alarm-rate must lie between 0 and 1, not {config.false_alarm_rate}"
        )
    preset = DETECTION[trained_preset if config.preset == "model" else config.preset]
    asked = {name: getattr(config, name) for name in ("matcher", "refine", "features")}
    preset = replace(preset, **{name: value for name, value in asked.items() if value})
    device, why = choose_device(config.device, config.backend)
    threads = settle_threads(config.threads, config.backend, preset.matcher, preset.features)
    pose = PoseSettings(method=preset.refine, steps=config.steps)
    return InspectionSettings(
        preset, device, config.backend, threads, config.weights, config.false_alarm_rate, pose
    ), why


def _queries(
    config: DetectConfig, stored: dict[str, Any]
) -> tuple[tuple[Query, ...], Capture | None]:
    """The images asked for, or the test images of the data set. Raises InputError."""
    if config.images is not None:
        return read_queries(config.images, config.good_label), None
    try:
        capture = read_capture(stored["source"], stored["resolution"], config.good_label)
    except InputError as error:
        raise InputError(f"{error} Or name the images to inspect with --images.") from error
    if not capture.queries:
        raise InputError(
            f"'{capture.root}' has no test images: name images with --images FILE_OR_FOLDER"
        )
    return capture.queries, capture


def _setup(config: DetectConfig, inspector: Inspector, queries: Sequence[Query]) -> QuerySetup:
    """What is said of how the queries were taken. Raises InputError."""
    if not inspector.is_plain and (config.masks or config.background):
        raise InputError(
            "--masks and --background need a model of the object alone, and this one shows what "
            "stood around it: train on transparent images, or leave them out"
        )
    asked = {name: getattr(config, name) for name in _SETUP}
    is_fitted = config.camera == "fit"
    if is_fitted:
        asked["camera"] = None
    setup = query_setup(inspector.camera, queries, **asked)
    if not is_fitted:
        return setup
    lens = fit_focal(replace(inspector, setup=setup), [query.image_path for query in queries])
    return replace(setup, lens=lens)


def _truth(capture: Capture | None) -> dict[str, Tensor]:
    """True poses by query name, in the frame of the files."""
    if capture is None:
        return {}
    return {name: capture.world.into_files(pose) for name, pose in true_poses(capture).items()}


def _output_root(config: DetectConfig) -> Path:
    """The folder to write to. Raises InputError when there is no run to go on with."""
    if config.resume is not None:
        if config.output not in (None, config.resume):
            raise InputError("--resume names the folder to write to: leave -o out")
        if not is_unfinished(config.resume):
            raise InputError(
                f"--resume: '{config.resume}' holds no interrupted run: check the path"
            )
        return config.resume
    if config.output is not None:
        return config.output
    base = config.model / "detections" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    taken = (base.with_name(f"{base.name}_{number}") for number in count(2))
    return next(root for root in chain([base], taken) if not root.exists())


def _decisive(config: DetectConfig, settings: InspectionSettings) -> dict[str, Any]:
    """What decides the results beside the model: a run goes on only with the same."""
    images = None if config.images is None else str(config.images.resolve())
    given = {name: getattr(config, name) for name in _SETUP}
    setup = {name: _given(value) for name, value in given.items() if value is not None}
    weights = None if settings.weights is None else str(settings.weights.resolve())
    return {
        "images": images, "good_label": config.good_label, **asdict(settings.preset),
        "pose": asdict(settings.pose), "false_alarm_rate": settings.false_alarm_rate,
        "weights": weights, "backend": settings.backend, "device": settings.device.type, **setup,
    }  # fmt: skip


def _given(value: Path | str) -> str:
    """A file or folder and its state, or a word such as exif."""
    path = Path(value).resolve()
    return f"{path} ({files_state(path)})" if path.exists() else str(value)


def _as_json(
    config: DetectConfig, settings: InspectionSettings, size: int, notes: list[str]
) -> dict[str, Any]:
    """Everything needed to repeat the run, as JSON values."""
    asked = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(config).items()}
    used = asdict(settings.preset) | {"pose": asdict(settings.pose), "batch_size": size}
    used["threads"] = settings.threads
    return asked | {"used": used, "notes": notes, **provenance()}


def _say(summary: dict[str, Any], root: Path) -> None:
    """The figures of the run on the terminal."""
    for name in ("image_auroc", "pixel_auroc", "aupro"):
        value = summary[name]
        print(f"{name:12s} {'not available' if value is None else f'{value:.4f}'}")
    if refused := summary["n_poses_refused"]:
        print(f"without {refused} images whose pose was not found")
    failed, done = summary["n_failed"], "inspected"
    if summary["threshold"] is None:
        done = "scored; there is no threshold, so no verdicts are given"
    print(f"{summary['n_images'] - failed} of {summary['n_images']} images {done}", end="")
    print(f", {failed} failed (see the report)" if failed else "")
    print(f"report: {root / 'report.html'}")


def _say_objects(found: dict[str, Any]) -> None:
    """The verdict on each object, and what they come to."""
    for each in found["objects"]:
        verdict = {True: "anomalous", False: "normal", None: "no verdict"}[each["is_anomalous"]]
        score = "" if each["score"] is None else f", score {each['score']:.4g}"
        seen = "" if each["coverage"] is None else f", {each['coverage']:.0%} of the surface seen"
        print(f"{each['name']}: {verdict}{score}, {len(each['images'])} images{seen}")
        for image in each["refused"]:
            print(f"  does not count: {image['name']}: {image['reason']}")
    summary = found["object_summary"]
    if summary["alone"]:
        print(f"--group-by: {len(summary['alone'])} images belong to no object")
    auroc = summary["object_auroc"]
    print(f"object_auroc {'not available' if auroc is None else f'{auroc:.4f}'}")


def main() -> None:
    """Command line; status 1 when an image could not be read."""

    def script() -> None:
        if detect(tyro.cli(DetectConfig, description=__doc__)).failures:
            sys.exit(1)

    run(script, "the report holds what was inspected until then")


if __name__ == "__main__":
    main()
