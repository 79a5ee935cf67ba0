"""What people change about a model: its calibration and its zones. Workers do it, beside the queue.

A task may be done twice, where a worker died of the first try: each leaves the same files.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Row, select

from anomaly import painted_members
from pipeline.model_folder import ModelFolder
from pipeline.open_inspector import InspectionSettings, open_inspector
from pipeline.photographs import add_photographs, inspect_photographs
from pipeline.presets import DETECTION
from pipeline.zones import Zone, check_zone, load_zones, save_zones
from report import run_in_3d
from scene import InputError, write_json

from .changes import current_threshold
from .database import Database
from .inspect_part import scene_path
from .models import Models, OpenModel
from .settings import StationSettings
from .spool import Spool
from .tables import inspections, thresholds, verdicts
from .versions import restore_snapshot, snapshot_folder, take_snapshot

Outcome = tuple[str, dict[str, Any] | None]  # a sentence, and the values of a new threshold version
_LEAST_PAINTED = 3  # Gaussians


def run_task(
    settings: StationSettings,
    database: Database,
    models: Models,
    task: Row,
    progress: Callable[[str], None],
) -> Outcome:
    """Does one task. Raises InputError with what to do about it."""
    if task.model not in settings.models:
        raise InputError(f"there is no model {task.model} any more")
    model = models.get(task.model)
    if task.kind == "recalibrate":
        return _recalibrate(settings, database, model, task, progress)
    if task.kind == "restore":
        return _restore(settings, database, model, task)
    if task.kind == "paint":
        return _paint(database, model, task.arguments), None
    if task.kind == "scene":
        return _scene(settings, database, model, task.arguments["key"]), None
    if task.kind == "erase":
        return _erase(model, task.arguments["name"]), None
    raise InputError(f"there is no task of the kind {task.kind}")


def _recalibrate(
    settings: StationSettings,
    database: Database,
    model: OpenModel,
    task: Row,
    progress: Callable[[str], None],
) -> Outcome:
    """The scores of confirmed good parts added to those that the model was found with."""
    with database.read() as connection:
        base = connection.execute(
            select(thresholds.c.snapshot)
            .where(thresholds.c.model == task.model, thresholds.c.kind == "found")
            .order_by(thresholds.c.version.desc()).limit(1)
        ).scalar_one()  # fmt: skip
    target = snapshot_folder(settings, task.model, f"task-{task.id}")
    shutil.rmtree(target, ignore_errors=True)
    progress("copies the photographs")
    good = _copied(settings, task.arguments["photographs"], target / "good")
    scratch = _scratch(model, snapshot_folder(settings, task.model, base), target / "scratch")
    config = model.folder.load_config()["settings"]
    asked = InspectionSettings(
        DETECTION[config["preset"]], model.inspector.model.background.device, settings.backend,
        settings.threads, None, settings.false_alarm_rate,
    )  # fmt: skip
    inspector = open_inspector(scratch, asked)
    progress(f"inspects {len(good)} photographs")
    found = inspect_photographs(inspector, good, confirmed=True)
    calibration = scratch.load_calibration(model.iteration)
    try:
        add_photographs(scratch, calibration, inspector, found, target / "good", model.iteration)
    except InputError as error:
        raise InputError(f"{error} (the threshold from before still counts)") from error
    take_snapshot(scratch, target)
    shutil.rmtree(scratch.root)
    restore_snapshot(target, model.folder, model.iteration)
    before = model.inspector.threshold
    after = open_threshold(model.folder, model.iteration, inspector.scorer.name, settings)
    details = {
        "photographs": len(found.used), "left_out": len(found.left_out),
        "before": None if before is None else before.value, "after": after,
    }  # fmt: skip
    message = f"the threshold is now {after:.4g}, with {len(found.used)} photographs of good parts"
    if found.left_out:
        message += f"; left out: {len(found.left_out)} ({found.left_out[0][1]})"
    return message, {"kind": "recalibrated", "snapshot": f"task-{task.id}", "details": details}


def open_threshold(
    folder: ModelFolder, iteration: int, features: str, settings: StationSettings
) -> float:
    """The threshold that the calibration of a folder gives."""
    scores = folder.load_calibration(iteration).scores[features]
    return scores.threshold(settings.false_alarm_rate).value


def _copied(settings: StationSettings, chosen: list[list[Any]], target: Path) -> list[Path]:
    """The photographs, kept beside the version that stands on them."""
    target.mkdir(parents=True)
    spool, paths = Spool(settings.spool, 0, 0), []
    for key, number in chosen:
        source = spool.path(key, number)
        if source.is_file():
            paths.append(target / source.name)
            shutil.copyfile(source, paths[-1])
    return paths


def _scratch(model: OpenModel, base: Path, target: Path) -> ModelFolder:
    """The model folder with the calibration of another version; nothing large is copied."""
    scratch = ModelFolder(target)
    cloud = scratch.point_cloud_path(model.iteration)
    cloud.parent.mkdir(parents=True)
    for path in (model.folder.config_path, model.folder.gallery_path,
                 model.folder.normal_model_path):  # fmt: skip
        if path.is_file():
            (target / path.name).symlink_to(path)
    cloud.symlink_to(model.folder.point_cloud_path(model.iteration))
    for path in base.iterdir():
        if path.is_file():
            shutil.copyfile(path, target / path.name)
    return scratch


def _restore(settings: StationSettings, database: Database, model: OpenModel, task: Row) -> Outcome:
    """The state of an earlier version as a new one."""
    with database.read() as connection:
        wanted = connection.execute(
            select(thresholds).where(
                thresholds.c.model == task.model, thresholds.c.version == task.arguments["version"]
            )
        ).first()
        current = current_threshold(connection, task.model)
    if wanted is None:
        raise InputError(f"{task.model} has no version {task.arguments['version']}")
    if current is None or current.snapshot != wanted.snapshot:
        source = snapshot_folder(settings, task.model, wanted.snapshot)
        restore_snapshot(source, model.folder, model.iteration)
    return f"version {wanted.version} counts again", {
        "kind": "restored", "snapshot": wanted.snapshot, "value": wanted.value,
        "rate": wanted.rate, "details": {"version": wanted.version},
    }  # fmt: skip


def _paint(database: Database, model: OpenModel, arguments: dict[str, Any]) -> str:
    """A painted zone, projected onto the Gaussians and kept in the model folder."""
    name, factor = check_zone(arguments["name"], arguments["kind"], arguments["factor"])
    images = _document(database, arguments["key"])["images"]
    if not 0 <= arguments["number"] < len(images):
        raise InputError("there is no such picture: reload the page")
    entry = images[arguments["number"]]
    if entry["world_to_camera"] is None or entry["pose_ok"] is False:
        raise InputError("the pose of this picture is not trusted: paint on another one")
    pose = torch.tensor(entry["world_to_camera"], dtype=torch.float64)
    camera = model.inspector.camera.at(model.inspector.world.into_model(pose))
    mask = mask_of_runs(arguments["runs"], camera.width, camera.height)
    members = painted_members(model.inspector.model, camera, mask)
    if int(members.sum()) < _LEAST_PAINTED:
        raise InputError("nothing of the object was painted: paint on the object")
    with model.folder.lock("--models"):
        zones = [z for z in load_zones(model.folder, model.iteration) if z.name != name]
        zones.append(Zone(name, arguments["kind"], factor, members))
        save_zones(model.folder, zones, model.iteration)
    return f"zone '{name}' holds {int(members.sum())} Gaussians"


def _scene(settings: StationSettings, database: Database, model: OpenModel, key: str) -> str:
    """What the 3D viewer draws of one inspection, beside its pictures."""
    entries = _document(database, key)["images"]
    root = settings.pictures / key[:2] / key
    found = run_in_3d(model.inspector, model.folder, entries, root, model.scale)
    write_json(scene_path(settings.pictures, key), found.document)
    return "the scene is made"


def _document(database: Database, key: str) -> dict[str, Any]:
    """What was found in an inspection. Raises InputError."""
    query = select(verdicts.c.document).join(inspections).where(inspections.c.key == key)
    with database.read() as connection:
        document = connection.execute(query).scalar_one_or_none()
    if document is None:
        raise InputError("the part is not inspected yet: wait for its verdict")
    return dict(document)


def mask_of_runs(runs: list[list[int]], width: int, height: int) -> torch.Tensor:
    """Painted pixels [H, W] bool from (start, length) in row-major order. Raises InputError."""
    mask = torch.zeros(width * height, dtype=torch.bool)
    for start, length in runs:
        if not (start >= 0 and length > 0 and start + length <= len(mask)):
            raise InputError("what was painted does not fit the picture: reload the page")
        mask[start : start + length] = True
    return mask.reshape(height, width)


def _erase(model: OpenModel, name: str) -> str:
    with model.folder.lock("--models"):
        zones = load_zones(model.folder, model.iteration)
        kept = [zone for zone in zones if zone.name != name]
        save_zones(model.folder, kept, model.iteration)
    return f"zone '{name}' is gone" if len(kept) < len(zones) else f"there was no zone '{name}'"
