"""How the method holds out: few views, wrong poses, another light, other objects and materials.

    python -m benchmarks.robustness -s data/brick_dog
    python -m benchmarks.robustness -s data/brick_dog --only "as it is" "20 % of the views"
    python -m benchmarks.robustness --synthetic             renders four captures, as they are
    python -m benchmarks.robustness -s out/robustness/captures/matte

Every row is train.py, detect.py and what the true poses say. Rows that are done are kept: give the
same command again, or one with more, and it goes on. Writes robustness.md, .csv, .tex and .json
(docs/robustness.md). Needs pandas: pip install .[benchmarks].
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro

from detect import DetectConfig, detect
from pipeline.command_line import run
from pipeline.model_folder import ModelFolder, provenance
from pose_estimation import rotation_error, translation_error
from scene import InputError, read_capture, read_json, true_poses, write_json
from scene.readers.folders import find_capture_folder
from train import TrainConfig, train

from .common import ANGLE_LIMIT, DISTANCE_LIMIT
from .disturbances import AS_IS, DISTURBANCES, Disturbance, in_other_light, with_noisy_poses
from .synthetic import SyntheticConfig, make_capture

if TYPE_CHECKING:
    from .table import Table

RATES = (0.01, 0.05)  # false-alarm rates whose thresholds are shown
_NOWHERE = Path("captures")
CAPTURES = {
    "glossy": SyntheticConfig(_NOWHERE, seed=21, blueprint="gears", gloss=0.9),
    "matte": SyntheticConfig(_NOWHERE, seed=22, blueprint="animal", gloss=0.0),
    "camera light": SyntheticConfig(_NOWHERE, seed=23, blueprint="pump", light="camera"),
    "sensor noise": SyntheticConfig(
        _NOWHERE, seed=24, blueprint="vehicle", gloss=0.4, sensor_noise=0.015
    ),
}


@dataclass(frozen=True)
class RobustnessConfig:
    """Which rows, and where they go."""

    source: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["-s"])] = ()
    """Captures; every disturbance is tried on each."""
    synthetic: bool = False
    """Also the synthetic captures, as they are; they are rendered where they are not there yet."""
    only: tuple[str, ...] = ()
    """Names of the disturbances to try; default: all."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out/robustness")
    """Folder for captures, models, detections and the table."""
    iterations: int | None = None
    """Iterations of training, instead of the preset's."""
    seed: int = 0
    """Of the training, and of the noise of poses."""
    threads: int = 1
    """CPU threads."""


def measure_all(config: RobustnessConfig) -> list[dict[str, Any]]:
    """All rows, measured or read; the table is written anew after each.

    Raises:
        InputError: an unknown disturbance, or nothing to measure.
    """
    from .table import markdown, write_table  # says at once when pandas is missing

    rows: list[dict[str, Any]] = []
    for source, disturbance in _plan(config):
        rows.append(_row(source, disturbance, config))
        done = _done(config.output)
        write_table(table(done), config.output)
        write_json(config.output / "rows.json", done)
        print(markdown(table(rows[-1:])))
    if not rows:
        raise InputError("Nothing to measure: name captures with -s, or add --synthetic.")
    return rows


def _plan(config: RobustnessConfig) -> Iterator[tuple[Path, Disturbance]]:
    """Captures and what is done to them."""
    unknown = set(config.only) - {disturbance.name for disturbance in DISTURBANCES}
    if unknown:
        known = ", ".join(f"'{disturbance.name}'" for disturbance in DISTURBANCES)
        raise InputError(f"There is no disturbance {sorted(unknown)}: choose from {known}.")
    for source in config.source:
        for disturbance in DISTURBANCES:
            if not config.only or disturbance.name in config.only:
                yield find_capture_folder(source), disturbance
    if config.synthetic:
        for name, wanted in CAPTURES.items():
            folder = config.output / "captures" / name.replace(" ", "_")
            if not folder.is_dir():
                make_capture(SyntheticConfig(**{**vars(wanted), "out": folder}))
            yield folder, AS_IS


def _row(source: Path, disturbance: Disturbance, config: RobustnessConfig) -> dict[str, Any]:
    """One row of the table, from its file if it is done."""
    folder = config.output / source.resolve().name
    path = folder / "rows" / f"{_file_name(disturbance.name)}.json"
    if path.is_file():
        return dict(read_json(path))
    model = _train(source, disturbance, folder, config)
    images = None
    if disturbance.light != AS_IS.light:
        images = in_other_light(source, folder / _file_name(disturbance.light), disturbance.light)
    found = detect(
        DetectConfig(
            model=model,
            images=images,
            output=folder / "detections" / _file_name(disturbance.name),
            threads=config.threads,
        )
    ).results
    row = {"capture": source.resolve().name, "disturbance": disturbance.name}
    row |= figures(source, ModelFolder(model), found) | provenance()
    write_json(path, row)
    return row


def _train(source: Path, disturbance: Disturbance, folder: Path, config: RobustnessConfig) -> Path:
    """The model that a disturbance needs, trained unless it is there."""
    name = disturbance.training
    if disturbance.degrees or disturbance.units:
        noise = disturbance.degrees, disturbance.units
        captured = folder / "captures" / name.removesuffix("_refined")
        source = with_noisy_poses(source, captured, *noise, config.seed)
    return train(
        TrainConfig(
            source=source,
            model=folder / "models" / name,
            iterations=config.iterations,
            views_fraction=disturbance.share,
            refine_poses=disturbance.refine_poses,
            seed=config.seed,
            threads=config.threads,
        )
    )


def figures(source: Path, model: ModelFolder, results: dict[str, Any]) -> dict[str, Any]:
    """What a row says, from the results of detect.py and the true poses of the capture."""
    summary, trained = results["summary"], model.load_config()
    scores = model.load_calibration(trained["settings"]["iterations"]).scores.get("residual")
    limits = [None if scores is None else scores.threshold(rate).value for rate in RATES]
    labels = {query.name: query.is_anomalous for query in read_capture(source).queries}
    return {
        **{n: summary[n] for n in ("image_auroc", "pixel_auroc", "aupro", "aupro_0.05")},
        "kinds": {kind: values["image_auroc"] for kind, values in summary["kinds"].items()},
        "flagged": {
            f"{rate:g}": _flagged(results["images"], labels, limit)
            for rate, limit in zip(RATES, limits, strict=True)
        },
        "poses": _poses(source, results["images"]),
        "quality": trained["held_out_quality"],
        "views": [len(trained["views"]), len(trained["held_out"])],
        "held_out_scores": [] if scores is None else list(scores.scores),
        "seconds": summary["seconds"],
    }


def _flagged(
    images: list[dict[str, Any]], labels: dict[str, bool | None], limit: float | None
) -> dict[str, int] | None:
    """How many good and defective images pass a threshold; None where there is none."""
    if limit is None:
        return None
    inspected = [i for i in images if i["score"] is not None and i["pose_ok"] is not False]
    flagged = [labels[i["name"]] for i in inspected if i["score"] > limit]
    known = list(labels.values())
    return {
        "good": flagged.count(False),
        "of good": known.count(False),
        "defective": flagged.count(True),
        "of defective": known.count(True),
    }


def _poses(source: Path, images: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Poses against the true ones: found, and refused by the pose check though they were found."""
    truth = true_poses(read_capture(source))
    if not truth:
        return None
    errors, near, is_ok = [], [], []
    for image in (i for i in images if i["world_to_camera"] is not None and i["name"] in truth):
        pose = torch.tensor(image["world_to_camera"], dtype=torch.float64)
        angle = float(rotation_error(pose, truth[image["name"]]))
        distance = float(translation_error(pose, truth[image["name"]]))
        errors.append((math.degrees(angle), distance))
        near.append(angle < ANGLE_LIMIT and distance < DISTANCE_LIMIT)
        is_ok.append(image["pose_ok"] is not False)
    degrees, units = zip(*errors, strict=True) if errors else ((), ())
    middle = len(errors) // 2
    return {
        "of": len(errors),
        "found": sum(near),
        "found but refused": sum(n and not ok for n, ok in zip(near, is_ok, strict=True)),
        "not found but accepted": sum(ok and not n for n, ok in zip(near, is_ok, strict=True)),
        "median degrees": sorted(degrees)[middle] if errors else None,
        "median units": sorted(units)[middle] if errors else None,
    }


def table(rows: list[dict[str, Any]]) -> "Table":
    """The rows for people."""
    from .table import Table, pd

    cells = []
    for row in rows:
        kinds = ("-" if value is None else f"{value:.3f}" for value in row["kinds"].values())
        poses = row["poses"]
        cells.append(
            {"capture": row["capture"], "what differs": row["disturbance"],
             "image AUROC": row["image_auroc"], "kinds": " / ".join(kinds),
             "pixel AUROC": row["pixel_auroc"], "AUPRO .3": row["aupro"],
             "AUPRO .05": row["aupro_0.05"]}
            | {f"flagged at {100 * r:g} %": _flags(row["flagged"][f"{r:g}"]) for r in RATES}
            | {"poses found": f"{poses['found']} of {poses['of']}" if poses else "-",
               "found, but refused": str(poses["found but refused"]) if poses else "-",
               "PSNR": row["quality"]["psnr"],
               "in the silhouette": row["quality"]["psnr_object"]}
        )  # fmt: skip
    notes = [
        "kinds: image AUROC of " + " / ".join(rows[0]["kinds"]) + " alone",
        "flagged: good / defective images above the threshold of that false-alarm rate",
        "poses found: within 1 degree and 0.02 units; refused: pose_ok is false all the same",
    ]
    digits = {"image AUROC": 3, "pixel AUROC": 4, "AUPRO .3": 3, "AUPRO .05": 3}
    return Table("robustness", "Robustness", pd.DataFrame(cells), digits, notes)


def _flags(found: dict[str, int] | None) -> str:
    if found is None:
        return "no threshold"
    good, bad = (f"{found[kind]} of {found[f'of {kind}']}" for kind in ("good", "defective"))
    return f"{good} / {bad}"


def _done(root: Path) -> list[dict[str, Any]]:
    """All rows that are done, whatever command made them."""
    rows = [dict(read_json(path)) for path in sorted(root.glob("*/rows/*.json"))]
    order = [disturbance.name for disturbance in DISTURBANCES]
    return sorted(rows, key=lambda row: (row["capture"], order.index(row["disturbance"])))


def _file_name(name: str) -> str:
    return "_".join("".join(c if c.isalnum() or c == "." else " " for c in name).split())


def main() -> None:
    """Command line."""
    run(
        lambda: measure_all(tyro.cli(RobustnessConfig, description=__doc__)),
        "the same command goes on with the rows that are left",
    )


if __name__ == "__main__":
    main()
